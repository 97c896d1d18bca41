package import Postgres

/// The SQL that gives an installation's roles exactly the rights of ``Grant/table``; running it again changes nothing.
package struct GrantScript: Sendable {
    /// What the names of the roles begin with.
    package let prefix: String

    /// - Parameter prefix: Lowercase letters, digits and `_`, as ``isUsable(prefix:)`` wants it.
    package init(prefix: String) {
        self.prefix = prefix
    }

    /// Whether `prefix` makes names that need no quotes and are not cut.
    package static func isUsable(prefix: String) -> Bool {
        prefix.wholeMatch(of: /[a-z][a-z0-9_]{0,39}/) != nil && !prefix.hasPrefix("pg_")
    }

    /// Everything, for whoever owns Laravel's tables and may make roles, in one transaction; without a password.
    package func text(database: String) -> String {
        """
        -- The roles of CodexFlow in the database \(database.replacing("\n", with: " ")), made by 'codexflow grants'.
        -- Run it with psql as a superuser, after 'codexflow migrate', and again when Laravel's tables were made anew.
        -- A new role has no password: \\password \(name(.webhook))
        BEGIN;
        \((makeRoles + grantDatabase(database) + [takeOwnership] + statements(Grant.table)).joined(separator: "\n"))
        COMMIT;

        """
    }

    /// After a migration: the rights on our own schema for the roles that exist. Who is not the schema's owner changes nothing.
    package func refresh(_ connection: Connection) throws {
        let rows = try connection.query(
            """
            SELECT r.rolname FROM pg_roles r, pg_namespace n
            WHERE r.rolname = ANY(\(DatabaseRole.services.map(name))::text[])
              AND n.nspname = 'metering' AND pg_has_role(n.nspowner, 'USAGE')
            """)
        let there = Set(try rows.map { try $0.decode(0, as: String.self) })
        let roles = DatabaseRole.services.filter { there.contains(name($0)) }
        guard !roles.isEmpty else { return }
        try connection.transaction { connection in
            try connection.executeScript(
                statements(Grant.table.filter(\.isOurs), for: roles).joined(separator: "\n"))
        }
    }

    private func name(_ role: DatabaseRole) -> String { role.name(prefix: prefix) }

    private var makeRoles: [String] {
        DatabaseRole.allCases.map { role in
            """
            DO $$ BEGIN CREATE ROLE \(name(role)) LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            """
        } + [
            // Other sessions' transactions: the doctor tells of them, and the worker says what it waits for.
            "GRANT pg_read_all_stats TO \(name(.operator)), \(name(.worker));"
        ]
    }

    private func grantDatabase(_ database: String) -> [String] {
        [
            "GRANT CONNECT ON DATABASE \(database.quotedIdentifier) TO "
                + DatabaseRole.allCases.map(name).joined(separator: ", ") + ";",
            "GRANT CREATE ON DATABASE \(database.quotedIdentifier) TO \(name(.owner));",
        ]
    }

    /// Whoever made the first migration owned what it made.
    private var takeOwnership: String {
        """
        ALTER SCHEMA metering OWNER TO \(name(.owner));
        DO $$
        DECLARE
            item record;
        BEGIN
            FOR item IN
                SELECT 'TABLE' AS kind, c.oid::regclass::text AS name FROM pg_class c
                WHERE c.relnamespace = 'metering'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
                  AND c.relowner <> '\(name(.owner))'::regrole
                UNION ALL
                SELECT 'ROUTINE', p.oid::regprocedure::text FROM pg_proc p
                WHERE p.pronamespace = 'metering'::regnamespace AND p.proowner <> '\(name(.owner))'::regrole
            LOOP
                EXECUTE format('ALTER %s %s OWNER TO \(name(.owner))', item.kind, item.name);
            END LOOP;
        END
        $$;
        """
    }

    /// What a former version gave goes first; nobody sees the rights between, as they commit together.
    private func statements(_ grants: [Grant], for roles: [DatabaseRole] = DatabaseRole.allCases) -> [String] {
        let services = roles.filter { $0 != .owner }.map(name).joined(separator: ", ")
        return grants.flatMap { grant in
            let object = grant.object
            // A definer's function must not be led to somebody else's objects (PostgreSQL, CREATE FUNCTION).
            let hardening =
                grant.actsAsOwner ? ["ALTER \(object) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;"] : []
            let revocation = ["REVOKE ALL ON \(object) FROM \(grant.kind == .function ? "PUBLIC, " : "")\(services);"]
            return hardening + revocation
                + roles.compactMap { role in
                    let rights = grant.rights(of: role).map(\.description).joined(separator: ", ")
                    return rights.isEmpty || (role == .owner && grant.isOurs)
                        ? nil : "GRANT \(rights) ON \(object) TO \(name(role));"
                }
        }
    }
}

extension String {
    /// As PostgreSQL reads a name that may hold anything.
    var quotedIdentifier: String { "\"" + replacing("\"", with: "\"\"") + "\"" }
}
