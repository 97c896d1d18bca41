package import Postgres

/// The SQL that gives the roles of an installation exactly the rights of ``Grant/table``. Running it again is safe.
package struct GrantScript: Sendable {
    /// The begin of the names of the roles.
    package let prefix: String
    /// The table of Laravel's sessions.
    private let sessions: SessionTable

    /// The script for roles whose names begin with `prefix`, for which ``isUsable(prefix:)`` must be true.
    package init(prefix: String, sessions: SessionTable = .standard) {
        self.prefix = prefix
        self.sessions = sessions
    }

    /// Whether names with `prefix` need no quotes and are not cut by PostgreSQL.
    package static func isUsable(prefix: String) -> Bool {
        prefix.wholeMatch(of: /[a-z][a-z0-9_]{0,39}/) != nil && !prefix.hasPrefix("pg_")
    }

    /// The whole script in one transaction, without passwords. The owner of Laravel's tables can run it, if that role
    /// may create roles.
    package func text(database: String) -> String {
        """
        -- The roles of CodexFlow in the database \(database.replacing("\n", with: " ")), made by 'codexflow grants'.
        -- Run it with psql as a superuser, after 'codexflow migrate', and again when Laravel's tables were made anew.
        -- A new role has no password: \\password \(name(.webhook))
        BEGIN;
        -- What others have created in public must not run with a superuser's rights.
        SET LOCAL search_path = \(ConnectionConfiguration.pinnedSearchPath);
        \(everything(database).joined(separator: "\n"))
        COMMIT;

        """
    }

    /// Runs ``text(database:)`` as the connected role and sets `passwords`, in one transaction.
    ///
    /// - Throws: ``Refusal`` where the connected role is one of the services'; ``PostgresError``.
    package func apply(_ connection: Connection, passwords: [DatabaseRole: String]) throws {
        let row = try connection.query("SELECT current_user::text, current_database()::text")[0]
        let (user, database) = try row.decode(String.self, String.self)
        if let role = DatabaseRole.services.first(where: { name($0) == user }) { throw Refusal(user: user, role: role) }
        let newPasswords = try DatabaseRole.allCases.compactMap { role in
            // The verifier is letters, digits, and no quote.
            try passwords[role].map {
                "ALTER ROLE \(name(role)) PASSWORD '\(try connection.verifier(ofPassword: $0))';"
            }
        }
        try connection.transaction { connection in
            try connection.executeScript((everything(database) + newPasswords).joined(separator: "\n"))
        }
    }

    /// The roles that do not exist, in a fixed order.
    ///
    /// - Throws: ``PostgresError``.
    package func missingRoles(_ connection: Connection) throws -> [DatabaseRole] {
        let rows = try connection.query(
            "SELECT rolname::text FROM pg_roles WHERE rolname = ANY(\(DatabaseRole.allCases.map(name))::text[])")
        let there = Set(try rows.map { try $0.decode(0, as: String.self) })
        return DatabaseRole.allCases.filter { !there.contains(name($0)) }
    }

    /// The connected role is one of the services'. The script would take its other rights away.
    package struct Refusal: Error, CustomStringConvertible {
        let user: String
        let role: DatabaseRole

        package var description: String {
            "\(user) is the role of a service (\(role)), which makes no roles. "
                + "Connect as the owner of the database: DB_USERNAME and DB_PASSWORD, or MIGRATE_DATABASE_URL."
        }
    }

    private func everything(_ database: String) -> [String] {
        makeRoles + grantDatabase(database) + [closePublic, takeOwnership] + statements(Grant.table + sessions.grants)
    }

    /// Grants the existing roles their rights on our own schema, after a migration. Does nothing if the connected role
    /// does not own the schema.
    ///
    /// - Throws: ``PostgresError``.
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

    /// The role's name in this installation.
    package func name(_ role: DatabaseRole) -> String { role.name(prefix: prefix) }

    private var makeRoles: [String] {
        DatabaseRole.allCases.map { role in
            """
            DO $$ BEGIN CREATE ROLE \(name(role)) LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            """
        } + [
            pinSettings,
            // To see transactions of other sessions: the doctor and the worker report them.
            "GRANT pg_read_all_stats TO \(name(.operator)), \(name(.worker));",
        ]
    }

    /// Sets our session settings on the roles, for a pooler that ignores the `options` of a connection.
    private var pinSettings: String {
        let settings =
            SessionSetting.pinned.map { ($0.name, $0.value) }
            + [("search_path", ConnectionConfiguration.pinnedSearchPath)]
        // A list such as a search path is written without quotes around the whole.
        let values = settings.map { name, value in
            "('\(name)', '\(value)', '\(name == "search_path" ? value : "''\(value)''")')"
        }
        return """
            DO $$
            DECLARE
                item record;
            BEGIN
                FOR item IN
                    SELECT r.oid::regrole::text AS name, v.setting, v.literal
                    FROM pg_roles r,
                         (VALUES \(values.joined(separator: ",\n                 "))) AS v (setting, value, literal)
                    WHERE r.rolname IN (\(DatabaseRole.allCases.map { "'\(name($0))'" }.joined(separator: ", ")))
                      AND NOT EXISTS (
                          SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS c (setting)
                          WHERE s.setrole = r.oid AND s.setdatabase = 0
                            AND lower(c.setting) = lower(v.setting || '=' || v.value))
                LOOP
                    EXECUTE format('ALTER ROLE %s SET %s = %s', item.name, item.setting, item.literal);
                END LOOP;
            END
            $$;
            """
    }

    private func grantDatabase(_ database: String) -> [String] {
        [
            "GRANT CONNECT ON DATABASE \(database.quotedIdentifier) TO "
                + DatabaseRole.allCases.map(name).joined(separator: ", ") + ";",
            "GRANT CREATE ON DATABASE \(database.quotedIdentifier) TO \(name(.owner));",
        ]
    }

    /// Revokes CREATE in `public` from PUBLIC, which has it in databases made before PostgreSQL 15. The owner of
    /// Laravel's tables keeps it for Laravel's migrations.
    private var closePublic: String {
        """
        DO $$
        DECLARE
            item record;
        BEGIN
            FOR item IN
                SELECT DISTINCT c.relowner::regrole::text AS name FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'public' AND c.relname IN ('users', 'api_logs', 'migrations')
                  AND has_schema_privilege(c.relowner, n.oid, 'CREATE') AND c.relowner <> n.nspowner
            LOOP
                EXECUTE format('GRANT CREATE ON SCHEMA public TO %s', item.name);
            END LOOP;
        END
        $$;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        """
    }

    /// Gives the objects of our schema to the role `owner`. Until then the role that ran the first migration owns them.
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

    /// Revokes what a former version granted, then grants. No session sees the state between, as both commit together.
    private func statements(_ grants: [Grant], for roles: [DatabaseRole] = DatabaseRole.allCases) -> [String] {
        let services = roles.filter { $0 != .owner }.map(name).joined(separator: ", ")
        return grants.flatMap { grant in
            let object = grant.object
            // A SECURITY DEFINER function must not find foreign objects (PostgreSQL, CREATE FUNCTION).
            let hardening =
                grant.actsAsOwner
                ? ["ALTER \(object) SECURITY DEFINER SET search_path = \(ConnectionConfiguration.pinnedSearchPath);"]
                : []
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
    /// The text as a quoted identifier of PostgreSQL.
    var quotedIdentifier: String { "\"" + replacing("\"", with: "\"\"") + "\"" }
}
