import Postgres

/// Columns by which Laravel says that a row is deleted while it is there.
enum SoftDeleteDiagnosis {
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, r.name, has_column_privilege(r.name, c.oid, a.attnum, 'SELECT')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'deleted_at' AND NOT a.attisdropped
            CROSS JOIN (
                SELECT coalesce(max(pg_get_userbyid(p.proowner)::text) FILTER (WHERE p.prosecdef), current_user::text) AS name
                FROM pg_proc p JOIN pg_namespace m ON m.oid = p.pronamespace
                WHERE m.nspname = 'metering' AND p.proname = 'is_deleted'
            ) r
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
            ORDER BY c.relname = 'users' DESC, c.relname
            """)
        return try rows.map { row in
            let (table, user, isReadable) = try row.decode(String.self, String.self, Bool.self)
            switch (table, isReadable) {
            case ("users", true):
                return LaravelFinding(
                    .handled, "users has soft deletes",
                    meaning:
                        "A soft-deleted user is refused like a missing one: logins, tokens, sessions and keys. Their calls "
                        + "are still counted and stored.",
                    remedy: "Nothing.")
            case ("users", false):
                return LaravelFinding(
                    .blinding, "users has soft deletes, which this installation may not read", details: "role \(user)",
                    meaning: "It cannot be told who is deleted, so logins, tokens and keys are refused.",
                    remedy: "GRANT SELECT ON TABLE public.users TO \(user.quotedIdentifier); or run the output of "
                        + "'codexflow grants' with psql again.")
            default:
                return LaravelFinding(
                    .risky, "\(table) has soft deletes",
                    meaning: "Rows that Laravel hides are still read and counted here.",
                    remedy: "Delete such rows for good, or expect the two to differ.")
            }
        }
    }
}
