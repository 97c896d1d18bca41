import Postgres

/// Columns by which Laravel says that a row is deleted while it is there.
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
                SELECT coalesce(max(pg_get_userbyid(p.proowner)::text) FILTER (WHERE p.prosecdef), current_user::text) AS name
                FROM pg_proc p JOIN pg_namespace m ON m.oid = p.pronamespace
                WHERE m.nspname = 'metering' AND p.proname = 'is_deleted'
            ) r
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
            ORDER BY c.relname = 'users' DESC, c.relname
            """)
        return try rows.map { row in
            let (table, user, isReadable, oddity) = try row.decode(
                String.self, String.self, Bool.self, String?.self)
            switch (table, isReadable) {
            case ("users", true) where oddity != nil:
                return LaravelFinding(
                    .risky, "users has soft deletes, and its deleted_at is not the nullable time that Laravel makes",
                    details: "it is \(oddity ?? "")",
                    meaning: "As for Laravel, a user is deleted where it is not NULL, false and 0 too, and is refused.",
                    remedy: "If it says something else, rename it; else set it to NULL for users who are not deleted.")
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
