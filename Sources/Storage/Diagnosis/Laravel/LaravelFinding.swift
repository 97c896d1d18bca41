package import Postgres

/// Something about Laravel's database that changes what our answers mean: what it is, what it means, and what to do.
package struct LaravelFinding: Sendable, Hashable {
    /// How far our work goes on.
    package enum Effect: Sendable, Hashable {
        /// All answers are right.
        case handled
        /// Answers are right while nothing more happens, or become slow.
        case risky
        /// Some work is refused: events wait in quarantine, or changes fail. What is answered is right.
        case failing
        /// Nothing can be answered rightly: the service is not ready.
        case blinding
    }

    package let effect: Effect
    /// One sentence without its full stop, in words for a stranger: of names only those of tables.
    package let what: String
    /// Names for the operator, such as that of a trigger.
    package let details: String?
    /// One sentence of what follows from it, for a stranger.
    package let meaning: String
    /// What the operator does about it; SQL is written out.
    package let remedy: String

    package init(_ effect: Effect, _ what: String, details: String? = nil, meaning: String, remedy: String) {
        self.effect = effect
        self.what = what
        self.details = details
        self.meaning = meaning
        self.remedy = remedy
    }

    /// Whether events may be in quarantine because of it.
    package var makesVerdictsDoubtful: Bool { effect == .failing || effect == .blinding }

    /// For a stranger.
    package var publicText: String { "\(what). \(meaning)" }

    /// For the operator, on one line.
    package var text: String { "\(what)\(details.map { " (\($0))" } ?? ""). \(meaning)" }

    /// As the doctor reports it.
    package func finding(_ subject: String) -> Finding {
        switch effect {
        case .handled: .ok(subject, text)
        case .risky: .warning(subject, text, remedy)
        case .failing, .blinding: .failure(subject, text, remedy)
        }
    }
}

/// Everything about Laravel's database that would change the meaning of our statements without an error.
package enum LaravelDiagnosis {
    /// A database role and the program that connects as it.
    package struct Actor: Sendable, Hashable {
        package let user: String
        package let role: DatabaseRole

        package init(user: String, role: DatabaseRole) {
            self.user = user
            self.role = role
        }
    }

    /// Laravel's tables that our statements name.
    static let tables = Grant.table.filter { $0.kind == .table && !$0.isOurs }.map { String($0.name.dropFirst(7)) }

    /// What is found for a program that is connected as the role of `connection`.
    package static func findings(_ connection: Connection, for role: DatabaseRole) throws -> [LaravelFinding] {
        let user = try connection.query("SELECT current_user::text")[0].decode(0, as: String.self)
        return try RowSecurity.findings(connection, for: [Actor(user: user, role: role)])
            + SessionDiagnosis.readOnly(connection, for: role) + findings(connection)
    }

    /// What is found for the roles of `codexflow grants` that exist, and for the role of `connection`.
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

    /// What is the same for all roles, in the order in which it is reported. Each asks the catalogs, and the last a few
    /// rows.
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
    /// For a stranger, each text once: several roles or triggers may differ only in the details.
    package var publicTexts: [String] {
        var seen: Set<String> = []
        return map(\.publicText).filter { seen.insert($0).inserted }
    }
}
