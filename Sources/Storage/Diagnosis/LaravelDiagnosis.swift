package import Postgres

/// Something about Laravel's database that changes what our answers mean.
package struct LaravelFinding: Sendable, Hashable {
    /// How far it disturbs our work.
    package enum Effect: Sendable, Hashable {
        /// All answers are right.
        case handled
        /// Answers are right for now, or become slow.
        case risky
        /// Some work is refused: events wait in quarantine, or changes fail. Answers are right.
        case failing
        /// No answer would be right, so the service is not ready.
        case blinding
    }

    /// How far it disturbs our work.
    package let effect: Effect
    /// One sentence without its full stop. It is public, so it names tables only.
    package let what: String
    /// Names for the operator, such as that of a trigger.
    package let details: String?
    /// One public sentence about its consequence.
    package let meaning: String
    /// What the operator should do, with the SQL for it.
    package let remedy: String

    /// A finding with these texts.
    package init(_ effect: Effect, _ what: String, details: String? = nil, meaning: String, remedy: String) {
        self.effect = effect
        self.what = what
        self.details = details
        self.meaning = meaning
        self.remedy = remedy
    }

    /// Whether events may be in quarantine because of it.
    package var makesVerdictsDoubtful: Bool { effect == .failing || effect == .blinding }

    /// The public text.
    package var publicText: String { "\(what). \(meaning)" }

    /// The text for the operator, on one line.
    package var text: String { "\(what)\(details.map { " (\($0))" } ?? ""). \(meaning)" }

    /// The finding of the doctor about `subject`.
    package func finding(_ subject: String) -> Finding {
        switch effect {
        case .handled: .ok(subject, text)
        case .risky: .warning(subject, text, remedy)
        case .failing, .blinding: .failure(subject, text, remedy)
        }
    }
}

/// Finds everything about Laravel's database that changes the meaning of our statements without an error.
package enum LaravelDiagnosis {
    /// A database role and the program that connects as it.
    package struct Actor: Sendable, Hashable {
        /// The role's name in PostgreSQL.
        package let user: String
        /// The program's role.
        package let role: DatabaseRole

        /// The role `user` of the program `role`.
        package init(user: String, role: DatabaseRole) {
            self.user = user
            self.role = role
        }
    }

    /// Laravel's tables that our statements name.
    static let tables = Grant.table.filter { $0.kind == .table && !$0.isOurs }.map { String($0.name.dropFirst(7)) }

    /// The findings for a program that is connected as the role of `connection`.
    ///
    /// - Throws: ``PostgresError``.
    package static func findings(_ connection: Connection, for role: DatabaseRole) throws -> [LaravelFinding] {
        let user = try connection.query("SELECT current_user::text")[0].decode(0, as: String.self)
        return try RowSecurity.findings(connection, for: [Actor(user: user, role: role)])
            + SessionDiagnosis.readOnly(connection, for: role) + findings(connection)
    }

    /// The findings for the existing roles of `codexflow grants` and for the role of `connection`.
    ///
    /// - Throws: ``PostgresError``.
    package static func findings(
        _ connection: Connection, rolePrefix: String, connectedAs role: DatabaseRole
    ) throws -> [LaravelFinding] {
        let known = DatabaseRole.allCases.map { Actor(user: $0.name(prefix: rolePrefix), role: $0) }
        let rows = try connection.query(
            """
            SELECT r.rolname::text FROM pg_roles r
            WHERE r.rolname = ANY(\(known.map(\.user))::text[]) OR r.rolname = current_user ORDER BY 1
            """)
        let actors = try rows.map { row in
            let user = try row.decode(0, as: String.self)
            return known.first { $0.user == user } ?? Actor(user: user, role: role)
        }
        return try RowSecurity.findings(connection, for: actors) + findings(connection)
    }

    /// The checks whose result is the same for all roles, in the order of the report. They read the catalogs; the last
    /// one also reads a few rows.
    private static let checks: [@Sendable (Connection) throws -> [LaravelFinding]] = [
        { try Encoding.findings($0) }, { try SessionDiagnosis.findings($0) }, { try schema($0) },
        { try TableDiagnosis.findings($0) }, { try SoftDeleteDiagnosis.findings($0) },
        { try TriggerDiagnosis.findings($0) }, { try SequenceDiagnosis.findings($0) },
    ]

    private static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try checks.flatMap { try $0(connection) }
    }

    private static func schema(_ connection: Connection) throws -> [LaravelFinding] {
        try SchemaCheck.findings(connection).map {
            LaravelFinding(
                .failing, "\($0)", meaning: "Events wait, or requests fail, while it is so.",
                remedy: "Change the column back, or use a version that knows it.")
        }
    }
}

extension [LaravelFinding] {
    /// The public texts, each once. Findings may differ only in details, such as the name of a trigger.
    package var publicTexts: [String] {
        var seen: Set<String> = []
        return map(\.publicText).filter { seen.insert($0).inserted }
    }
}

/// Checks the kind of Laravel's tables and the unique keys that its migrations make.
enum TableDiagnosis {
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try kinds(connection) + keys(connection) + foreignKeys(connection) + indexes(connection)
    }

    private static func kinds(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, c.relkind::text, c.relpersistence = 'u',
                   (SELECT string_agg(i.inhrelid::regclass::text, ', ' ORDER BY i.inhrelid::regclass::text)
                    FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
              AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            ORDER BY c.relname
            """)
        return try rows.flatMap { row -> [LaravelFinding] in
            let (table, kind, isUnlogged, children) = try row.decode(String.self, String.self, Bool.self, String?.self)
            var findings: [LaravelFinding] = []
            if kind == "p" {
                findings.append(
                    LaravelFinding(
                        .handled, "\(table) is partitioned", meaning: "Its rows are read and written through it.",
                        remedy: "Nothing."))
            } else if kind != "r" {
                let name = ["v": "a view", "m": "a materialized view"][kind] ?? "a foreign table"
                findings.append(
                    LaravelFinding(
                        .failing, "\(table) is \(name) and not a table",
                        meaning: "Its rows cannot be locked and its keys are not enforced, so events wait.",
                        remedy: "Make it a table again, then run 'codexflow adopt'."))
            }
            if let children {
                findings.append(
                    LaravelFinding(
                        .risky, "\(table) has tables that inherit from it", details: children,
                        meaning: "Their rows are read as its own, and their ids may be in use twice.",
                        remedy: "Take them out: ALTER TABLE … NO INHERIT public.\(table);"))
            }
            if isUnlogged {
                findings.append(
                    LaravelFinding(
                        .failing, "\(table) is unlogged",
                        meaning: "A crash of PostgreSQL empties it, with what was acknowledged.",
                        remedy: "ALTER TABLE public.\(table) SET LOGGED;"))
            }
            return findings
        }
    }

    /// The columns that Laravel's migrations make unique, and the consequence where they are not.
    private static let unique: [(table: String, columns: [String], meaning: String)] = [
        ("users", ["id"], "Two rows may have one id, and a user's usage is then that of both."),
        (
            "users", ["api_key"],
            "Two users may hold one key, and its calls go to either; each look-up reads the whole table."
        ),
        ("users", ["email"], "Two users may have one address, and a login finds either."),
        ("api_logs", ["id"], "Ids may be used twice, and details may belong to another row."),
        (
            "rate_limits", ["user_id", "period"],
            "A user may have several rows for a window, and Laravel reads any of them."
        ),
        ("personal_access_tokens", ["id"], "A token may be found twice; each look-up reads the whole table."),
        ("sessions", ["id"], "A session may be found twice; each look-up reads the whole table."),
        ("models", ["id"], "A model may be listed twice."),
    ]

    private static func keys(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT k.number
            FROM unnest(\(unique.map(\.table))::text[],
                \(unique.map { $0.columns.sorted().joined(separator: ",") })::text[])
                 WITH ORDINALITY AS k (table_name, columns, number)
            JOIN pg_namespace n ON n.nspname = 'public'
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = k.table_name AND c.relkind IN ('r', 'p')
            WHERE NOT EXISTS (
                SELECT FROM pg_index x
                WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
                  AND (SELECT string_agg(a.attname, ',' ORDER BY a.attname COLLATE "C")
                       FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) AS i (number)
                       JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = i.number) = k.columns)
            ORDER BY k.number
            """)
        return try rows.map { row in
            let key = unique[try row.decode(0, as: Int.self) - 1]
            let columns = key.columns.joined(separator: ", ")
            let constraint =
                key.columns == ["id"]
                ? "PRIMARY KEY (id)"
                : "CONSTRAINT \(key.table)_\(key.columns.joined(separator: "_"))_unique UNIQUE (\(columns))"
            return LaravelFinding(
                .risky, "\(key.table) (\(columns)) is no longer unique", meaning: key.meaning,
                remedy: "Remove what is there twice, then: ALTER TABLE public.\(key.table) ADD \(constraint);")
        }
    }

    private static func foreignKeys(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname IN ('api_logs', 'rate_limits') AND c.relkind IN ('r', 'p')
              AND NOT EXISTS (
                  SELECT FROM pg_constraint k JOIN pg_class u ON u.oid = k.confrelid
                  WHERE k.conrelid = c.oid AND k.contype = 'f' AND u.relname = 'users' AND u.relnamespace = n.oid)
            ORDER BY 1
            """)
        return try rows.map { row in
            let table: String = try row.decode(0)
            return LaravelFinding(
                .risky, "\(table) has no foreign key to users any more",
                meaning: "Rows of users who are deleted stay, and are still counted.",
                remedy:
                    "Delete the rows without a user, then: ALTER TABLE public.\(table) ADD CONSTRAINT "
                    + "\(table)_user_id_foreign "
                    + "FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE;")
        }
    }

    private static func indexes(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = 'api_logs' AND c.relkind IN ('r', 'p')
              AND NOT EXISTS (
                  SELECT FROM pg_index x
                  JOIN pg_attribute u ON u.attrelid = c.oid AND u.attnum = (x.indkey::int2[])[0]
                      AND u.attname = 'user_id'
                  JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum = (x.indkey::int2[])[1]
                      AND t.attname = 'created_at'
                  WHERE x.indrelid = c.oid AND x.indisvalid AND x.indpred IS NULL)
            """)
        guard !rows.isEmpty else { return [] }
        return [
            LaravelFinding(
                .risky, "api_logs has no index on (user_id, created_at) any more",
                meaning: "Lists of a user's logs are slow.",
                remedy:
                    "CREATE INDEX CONCURRENTLY api_logs_user_id_created_at_index "
                    + "ON public.api_logs (user_id, created_at);"
            )
        ]
    }
}
