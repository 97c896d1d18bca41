import Postgres

/// Row-level security on the tables we read and write.
///
/// PostgreSQL leaves out the rows that a policy hides, without an error: a user would be unknown, a sum too small. Our
/// sessions set `row_security = off`, under which such a statement is refused instead (`PostgresError.isRowSecurity`).
enum RowSecurity {
    static func findings(_ connection: Connection, for actors: [LaravelDiagnosis.Actor]) throws -> [LaravelFinding] {
        let uses = actors.flatMap { actor in
            Grant.table.filter { $0.kind == .table && !$0.rights(of: actor.role).isEmpty }.map { (actor.user, $0.name) }
        }
        // Whoever owns the function of soft deletes reads users for all.
        let rows = try connection.query(
            """
            SELECT w.user_name, string_agg(DISTINCT w.table_name, ', ' ORDER BY w.table_name),
                   string_agg(DISTINCT format(
                       CASE WHEN pg_has_role(r.oid, c.relowner, 'USAGE') THEN 'ALTER TABLE %I.%I NO FORCE ROW LEVEL SECURITY;'
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
                meaning: "A hidden row cannot be told from a missing one, so requests that need them are answered 503; "
                    + "no event is judged or lost meanwhile, as senders send again.",
                remedy:
                    "As a superuser: ALTER ROLE \(user.quotedIdentifier) BYPASSRLS; (a policy for the role is not enough, as "
                    + "what it does not admit is hidden without an error). Or: \(disable) Discard no event for it.")
        }
    }
}
