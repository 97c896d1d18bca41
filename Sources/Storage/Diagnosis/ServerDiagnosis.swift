import Domain
import Postgres

/// The server: what it is, and whether it keeps the promises that acknowledged events rest on.
enum ServerDiagnosis {
    /// Reachable by being asked at all; version, standby and encryption.
    static func server(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT current_setting('server_version_num')::integer / 10000, current_user::text, current_database()::text,
                   pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
                   coalesce((SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl), ''),
                   inet_client_addr() IS DISTINCT FROM inet_server_addr()
            """)
        let (version, user, name, isReadOnly, tls, isRemote) = try rows[0].decode(
            Int.self, String.self, String.self, Bool.self, String.self, Bool.self)
        var findings: [Finding] = []
        if version < 15 {
            findings.append(
                .failure("database", "PostgreSQL \(version) is too old", "Upgrade to PostgreSQL 15 or newer."))
        }
        if isReadOnly {
            findings.append(
                .failure(
                    "database", "the server is a standby or read-only: nothing can be stored",
                    "Point DB_HOST at the primary, or set default_transaction_read_only = off."))
        }
        if isRemote, tls.isEmpty {
            findings.append(
                .warning(
                    "database", "the connection crosses the network without TLS",
                    "Set DB_SSLMODE=verify-full and DB_SSLROOTCERT."))
        }
        let way = tls.isEmpty ? "without TLS" : "over \(tls)"
        return findings.orOK(
            "database", "PostgreSQL \(version) answers \(user) on \(name) \(way) (15 is the version of the tests)")
    }

    /// Our sessions switch `synchronous_commit` on by themselves; a pooler that drops their options, or a role whose setting is
    /// off, would acknowledge what a crash forgets.
    static func durability(_ connection: Connection) throws -> [Finding] {
        let settings = try connection.query(
            """
            SELECT name FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name
            """
        ).map { try $0.decode(0, as: String.self) }
        let remedies = [
            "fsync": "Set fsync = on in postgresql.conf and reload: without it a crash loses acknowledged events.",
            "full_page_writes": "Set full_page_writes = on in postgresql.conf and reload: a crash can tear pages.",
            "synchronous_commit": "The pooler drops our options: have it pass them, or set it on for the role.",
        ]
        let own = settings.map { Finding.failure("durability", "\($0) is off", remedies[$0] ?? "Set it on.") }
        let others = try connection.query(
            """
            SELECT coalesce('role ' || r.rolname, 'database ' || d.datname),
                   CASE WHEN r.rolname IS NULL THEN format('ALTER DATABASE %I', d.datname)
                        ELSE format('ALTER ROLE %I', r.rolname) || coalesce(format(' IN DATABASE %I', d.datname), '')
                   END || ' RESET synchronous_commit;'
            FROM pg_db_role_setting s
            LEFT JOIN pg_roles r ON r.oid = s.setrole
            LEFT JOIN pg_database d ON d.oid = s.setdatabase
            WHERE 'synchronous_commit=off' = ANY(s.setconfig)
              AND (s.setdatabase = 0 OR d.datname = current_database())
            ORDER BY 1
            """
        ).map { row in
            let (whose, statement) = try row.decode(String.self, String.self)
            return Finding.warning(
                "durability", "synchronous_commit is off for \(whose); our sessions override it, a pooler may not",
                statement)
        }
        return (own + others).orOK("durability", "fsync, full_page_writes and synchronous_commit are on")
    }

    static func connections(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' OR backend_type IS NULL),
                   current_setting('max_connections')::bigint
                   - current_setting('superuser_reserved_connections')::bigint
            """)
        let (used, limit) = try rows[0].decode(Int.self, Int.self)
        let message = "\(used) of \(limit) connections are used"
        let remedy = "Lower DB_MAX_CONNECTIONS or Laravel's workers, or raise max_connections."
        switch used * 100 / max(limit, 1) {
        case 95...: return [.failure("connections", message, remedy)]
        case 80...: return [.warning("connections", message, remedy)]
        default: return [.ok("connections", message)]
        }
    }

    static func clock(_ connection: Connection, now: () -> Timestamp) throws -> [Finding] {
        let asked = now()
        let rows = try connection.query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        let answered = now()
        let theirs = Timestamp(microseconds: try rows[0].decode(0))
        return [ClockSkew.finding(of: "the database", other: theirs, asked: asked, answered: answered)]
    }
}
