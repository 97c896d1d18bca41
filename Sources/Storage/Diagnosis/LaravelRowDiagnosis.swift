import Postgres

/// Checks for triggers and rules on Laravel's tables. They run in our statements and may change or remove our rows.
enum TriggerDiagnosis {
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try triggers(connection) + rules(connection)
    }

    /// The enabled triggers. The bits are those of `pg_trigger.tgtype`.
    private static func triggers(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, t.tgname::text, t.tgfoid::regprocedure::text,
                   CASE WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END,
                   concat_ws(' or ', CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END,
                             CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE' END,
                             CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END,
                             CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END),
                   t.tgtype & 1 <> 0,
                   CASE t.tgenabled WHEN 'A' THEN ', enabled always'
                                     WHEN 'R' THEN ', enabled in replica sessions only' ELSE '' END,
                   t.tgenabled = 'A' OR (t.tgenabled = 'R') = (current_setting('session_replication_role') = 'replica'),
                   format('ALTER TABLE %I.%I DISABLE TRIGGER %I;', n.nspname, c.relname, t.tgname)
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
              AND NOT t.tgisinternal AND t.tgenabled <> 'D'
            ORDER BY c.relname, t.tgname
            """)
        return try rows.map { row in
            let table: String = try row.decode(0)
            let (name, function): (String, String) = (try row.decode(1), try row.decode(2))
            let (timing, events): (String, String) = (try row.decode(3), try row.decode(4))
            let (isForRows, mode): (Bool, String) = (try row.decode(5), try row.decode(6))
            let (isFiring, disable): (Bool, String) = (try row.decode(7), try row.decode(8))
            let level = isForRows ? "each row" : "each statement"
            let mayChange = timing != "AFTER" && isForRows
            return LaravelFinding(
                isFiring ? .risky : .handled,
                "\(table) has a trigger that runs \(timing) \(events) for \(level)\(mode)",
                details: "\(name) calls \(function)",
                meaning: meaning(of: table, isFiring: isFiring, mayChange: mayChange),
                remedy: "See what it does. If our rows are none of its business: \(disable)")
        }
    }

    private static func meaning(of table: String, isFiring: Bool, mayChange: Bool) -> String {
        switch (isFiring, mayChange, table) {
        case (false, _, _): "It does not run in our sessions."
        case (true, true, "api_logs"):
            "It may change or swallow the rows of events: an event counts as stored only when its row is there, and "
                + "else waits."
        case (true, true, _): "It may change or swallow what we write there."
        case (true, false, _): "It runs inside our statements: its errors refuse them, and its time is theirs."
        }
    }

    private static func rules(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, w.rulename::text, w.is_instead,
                   CASE w.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT'
                                  ELSE 'DELETE' END,
                   format('DROP RULE %I ON %I.%I;', w.rulename, n.nspname, c.relname)
            FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
              AND w.rulename <> '_RETURN' AND w.ev_enabled <> 'D'
            ORDER BY c.relname, w.rulename
            """)
        return try rows.map { row in
            let (table, name, isInstead, event, drop) = try row.decode(
                String.self, String.self, Bool.self, String.self, String.self)
            return LaravelFinding(
                event == "INSERT" && table == "api_logs" ? .failing : .risky,
                "\(table) has a rule that \(isInstead ? "replaces" : "adds to") \(event)", details: name,
                meaning: "What we write there may go elsewhere or be refused; events wait then.",
                remedy: "If it may go: \(drop)")
        }
    }
}

/// Checks for row-level security on the tables that we read and write.
///
/// PostgreSQL leaves out the rows that a policy hides, without an error. A user would be unknown, or a total too small.
/// Our sessions set `row_security = off`, so such a statement is refused instead (`PostgresError.isRowSecurity`).
enum RowSecurity {
    static func findings(_ connection: Connection, for actors: [LaravelDiagnosis.Actor]) throws -> [LaravelFinding] {
        let uses = actors.flatMap { actor in
            Grant.table.filter { $0.kind == .table && !$0.rights(of: actor.role).isEmpty }.map { (actor.user, $0.name) }
        }
        // The function for soft deletes reads `users` as its owner, for all roles.
        let rows = try connection.query(
            """
            SELECT w.user_name, string_agg(DISTINCT w.table_name, ', ' ORDER BY w.table_name),
                   string_agg(DISTINCT format(
                       CASE WHEN pg_has_role(r.oid, c.relowner, 'USAGE')
                           THEN 'ALTER TABLE %I.%I NO FORCE ROW LEVEL SECURITY;'
                            ELSE 'ALTER TABLE %I.%I DISABLE ROW LEVEL SECURITY;' END, n.nspname, c.relname), ' ')
            FROM (SELECT * FROM unnest(\(uses.map(\.0))::text[], \(uses.map(\.1))::text[]) AS u (user_name, table_name)
                  UNION
                  SELECT pg_get_userbyid(p.proowner), 'public.users' FROM pg_proc p
                  JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'metering'
                  WHERE p.proname = 'is_deleted' AND p.prosecdef) w
            JOIN pg_roles r ON r.rolname = w.user_name
            JOIN pg_namespace n ON n.nspname = split_part(w.table_name, '.', 1)
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = split_part(w.table_name, '.', 2)
            WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
              AND NOT (pg_has_role(r.oid, c.relowner, 'USAGE') AND NOT c.relforcerowsecurity)
            GROUP BY w.user_name ORDER BY w.user_name
            """)
        return try rows.map { row in
            let (user, tables, disable) = try row.decode(String.self, String.self, String.self)
            let names = tables.replacing("public.", with: "")
            return LaravelFinding(
                .blinding, "Row-level security hides rows of \(names) from a database role of this installation",
                details: "role \(user)",
                meaning: "A hidden row looks like a missing one, so requests that need them are answered 503; "
                    + "no event is judged or lost meanwhile, as senders send again.",
                remedy:
                    "As a superuser: ALTER ROLE \(user.quotedIdentifier) BYPASSRLS; (a policy for the role is not "
                    + "enough, as what it does not admit is hidden without an error). Or: \(disable) "
                    + "Discard no event for it."
            )
        }
    }
}

/// Checks for the columns by which Laravel marks rows as soft-deleted.
enum SoftDeleteDiagnosis {
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, r.name, has_column_privilege(r.name, c.oid, a.attnum, 'SELECT'),
                   CASE WHEN a.attnotnull THEN 'NOT NULL'
                        WHEN a.atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype)
                        THEN 'of the type ' || format_type(a.atttypid, NULL) END
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'deleted_at' AND NOT a.attisdropped
            CROSS JOIN (
                SELECT coalesce(max(pg_get_userbyid(p.proowner)::text) FILTER (WHERE p.prosecdef),
                    current_user::text) AS name
                FROM pg_proc p JOIN pg_namespace m ON m.oid = p.pronamespace
                WHERE m.nspname = 'metering' AND p.proname = 'is_deleted'
            ) r
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
            ORDER BY c.relname = 'users' DESC, c.relname
            """)
        return try rows.map { row in
            let (table, user, isReadable, oddity) = try row.decode(
                String.self, String.self, Bool.self, String?.self)
            return finding(of: table, isReadable: isReadable, by: user, oddity: oddity)
        }
    }

    /// What the column `deleted_at` of `table` means. `oddity` is how it differs from Laravel's.
    private static func finding(
        of table: String, isReadable: Bool, by user: String, oddity: String?
    ) -> LaravelFinding {
        switch (table, isReadable) {
        case ("users", true) where oddity != nil:
            LaravelFinding(
                .risky, "users has soft deletes, and its deleted_at is not the nullable time that Laravel makes",
                details: "it is \(oddity ?? "")",
                meaning: "As for Laravel, a user is deleted where it is not NULL, false and 0 too, and is refused.",
                remedy: "If it says something else, rename it; else set it to NULL for users who are not deleted.")
        case ("users", true):
            LaravelFinding(
                .handled, "users has soft deletes",
                meaning:
                    "A soft-deleted user is refused like a missing one: logins, tokens, sessions and keys. Their calls "
                    + "are still counted and stored.",
                remedy: "Nothing.")
        case ("users", false):
            LaravelFinding(
                .blinding, "users has soft deletes, which this installation may not read", details: "role \(user)",
                meaning: "It is unknown who is deleted, so logins, tokens and keys are refused.",
                remedy: "GRANT SELECT ON TABLE public.users TO \(user.quotedIdentifier); or run the output of "
                    + "'codexflow grants' with psql again.")
        default:
            LaravelFinding(
                .risky, "\(table) has soft deletes",
                meaning: "Rows that Laravel hides are still read and counted here.",
                remedy: "Delete such rows for good, or expect the two to differ.")
        }
    }
}
