package import Postgres

/// Compares the rights of a role with those that its program needs.
package struct PrivilegeCheck: Sendable {
    /// A right that a role needs and does not have.
    package struct Lack: Sendable, Hashable, CustomStringConvertible {
        /// The missing right.
        package let right: Grant.Right
        /// The object.
        package let grant: Grant
        /// The role's name.
        package let user: String

        /// `SELECT (plan) on public.users`
        package var description: String { "\(right) on \(grant.name)" }
        /// The statement that grants it.
        package var remedy: String { "GRANT \(right) ON \(grant.object) TO \(user.quotedIdentifier);" }
    }

    /// The role of a program lacks rights for its work.
    package struct Refusal: Error, CustomStringConvertible {
        let lacks: [Lack]

        /// The role lacks these rights.
        package init(_ lacks: [Lack]) {
            self.lacks = lacks
        }

        package var description: String {
            "The database role \(lacks.first?.user ?? "") lacks \(lacks.map(\.description).joined(separator: ", ")). "
                + "Run the output of 'codexflow grants' with psql as a superuser."
        }
    }

    /// The role's name in the cluster.
    package let user: String

    /// A check of the role called `user`.
    package init(of user: String) {
        self.user = user
    }

    /// A check of the connected role.
    ///
    /// - Throws: ``PostgresError``.
    package static func ofCurrentUser(_ connection: Connection) throws -> PrivilegeCheck {
        PrivilegeCheck(of: try connection.query("SELECT current_user::text")[0].decode(0))
    }

    /// The rights that it lacks for the work of `role`. Missing objects are left to the schema check.
    ///
    /// - Throws: ``PostgresError``.
    package func lacks(_ connection: Connection, for role: DatabaseRole) throws -> [Lack] {
        let wanted = Grant.table.flatMap { grant in
            grant.rights(of: role).flatMap { right in
                right.columns.isEmpty
                    ? [Lack(right: right, grant: grant, user: user)]
                    : right.columns.map {
                        Lack(right: .init(privilege: right.privilege, columns: [$0]), grant: grant, user: user)
                    }
            }
        }.filter { role != .owner || !$0.grant.isOurs }
        let rows = try connection.query(
            """
            SELECT w.number
            FROM unnest(\(wanted.map(\.grant.kind.rawValue))::text[], \(wanted.map(\.grant.name))::text[],
                        \(wanted.map(\.right.privilege))::text[], \(wanted.map(\.right.columns.first))::text[])
                 WITH ORDINALITY AS w (kind, name, privilege, attribute, number)
            JOIN (\(Self.objects)) o ON o.kind = w.kind AND o.name = w.name
            LEFT JOIN pg_attribute a ON a.attrelid = o.oid AND a.attname = w.attribute AND w.kind = 'table'
            WHERE NOT CASE
                WHEN w.kind = 'schema' THEN has_schema_privilege(\(user), o.oid, w.privilege)
                WHEN w.kind = 'sequence' THEN has_sequence_privilege(\(user), o.oid, w.privilege)
                WHEN w.kind = 'function' THEN has_function_privilege(\(user), o.oid, w.privilege)
                WHEN w.attribute IS NULL THEN has_table_privilege(\(user), o.oid, w.privilege)
                ELSE has_column_privilege(\(user), o.oid, a.attnum, w.privilege)
            END
            ORDER BY w.number
            """)
        return try rows.map { wanted[try $0.decode(0, as: Int.self) - 1] }
    }

    /// The powers that no service needs, such as `is a superuser`. Each completes "the role …".
    ///
    /// - Throws: ``PostgresError``.
    package func excess(_ connection: Connection) throws -> [String] {
        let rows = try connection.query(
            """
            SELECT r.rolsuper, r.rolcreaterole, r.rolcreatedb,
                   (SELECT string_agg(o.name, ', ' ORDER BY o.name) FROM (\(Self.objects)) o
                    WHERE o.name = ANY(\(Grant.table.map(\.name))::text[]) AND o.kind IN ('schema', 'table')
                      AND pg_has_role(r.oid, o.owner, 'USAGE'))
            FROM pg_roles r WHERE r.rolname = \(user)
            """)
        guard let row = rows.first else { return ["does not exist"] }
        let (isSuperuser, makesRoles, makesDatabases, owned) = try row.decode(
            Bool.self, Bool.self, Bool.self, String?.self)
        if isSuperuser { return ["is a superuser"] }
        return [makesRoles ? "makes roles" : nil, makesDatabases ? "makes databases" : nil, owned.map { "owns \($0)" }]
            .compactMap { $0 }
    }

    /// The rights on tables that `role` does not need, such as `DELETE on public.users`.
    ///
    /// - Throws: ``PostgresError``.
    package func surplus(_ connection: Connection, over role: DatabaseRole) throws -> [String] {
        let needed = Grant.table.filter { $0.kind == .table }.flatMap { grant in
            grant.rights(of: role).filter(\.columns.isEmpty).map { "\($0.privilege) on \(grant.name)" }
        }
        let rows = try connection.query(
            """
            SELECT p.privilege || ' on ' || o.name
            FROM (\(Self.objects)) o, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (privilege)
            WHERE o.kind = 'table' AND o.name = ANY(\(Grant.table.map(\.name))::text[])
              AND has_table_privilege(\(user), o.oid, p.privilege)
              AND p.privilege || ' on ' || o.name <> ALL(\(needed)::text[])
            ORDER BY 1
            """)
        return try rows.map { try $0.decode(0, as: String.self) }
    }

    /// The objects of both schemas by the names of ``Grant``, read from the catalogs. PostgreSQL does not resolve a
    /// name for a role without rights on its schema.
    static let objects: Query = """
        SELECT 'schema' AS kind, n.nspname::text AS name, n.oid, n.nspowner AS owner FROM pg_namespace n
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname || '.' || c.relname, c.oid,
            c.relowner
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT 'function', format('%s.%s(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)), p.oid, p.proowner
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('public', 'metering')
        """
}
