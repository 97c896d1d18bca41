import Domain
import Postgres

/// Checks the server, and whether it keeps acknowledged events after a crash.
enum ServerDiagnosis {
    /// The server's version, whether it is a standby, and whether the connection is encrypted.
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

    /// Whether a COMMIT is durable. Our sessions switch `synchronous_commit` on. With a pooler that drops their
    /// options, the setting of the role counts, and a crash could lose acknowledged events.
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
            SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                OR backend_type IS NULL),
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

/// Checks whether the roles of our programs have the settings of our sessions as their defaults. Behind a pooler that
/// ignores the options of a connection, only those defaults count.
enum SettingsDiagnosis {
    private static let subject = "settings"

    static func findings(_ connection: Connection, rolePrefix: String) throws -> [Finding] {
        let pinned = SessionSetting.pinned
        let rows = try connection.query(
            """
            SELECT r.rolname::text, string_agg(p.name, ', ' ORDER BY p.number)
            FROM pg_roles r,
                 unnest(\(pinned.map(\.name))::text[], \(pinned.map(\.value))::text[])
                     WITH ORDINALITY AS p (name, value, number)
            WHERE r.rolname = ANY(\(DatabaseRole.allCases.map { $0.name(prefix: rolePrefix) })::text[])
              AND (SELECT lower(c.setting) FROM pg_db_role_setting s, unnest(s.setconfig) AS c (setting)
                   WHERE s.setrole = r.oid AND starts_with(lower(c.setting), lower(p.name) || '=')
                     AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                   ORDER BY s.setdatabase = 0 LIMIT 1) IS DISTINCT FROM lower(p.name || '=' || p.value)
            GROUP BY r.rolname ORDER BY r.rolname
            """)
        return try rows.map { row in
            let (role, names) = try row.decode(String.self, String.self)
            return .warning(
                subject,
                "\(role) has other defaults than our sessions: \(names). A pooler that ignores ours would use them",
                "Run the output of 'codexflow grants' with psql again, and take back what ALTER ROLE … IN "
                    + "DATABASE sets."
            )
        }.orOK(subject, "our sessions' settings are the defaults of our roles too")
    }
}

/// Checks the maintenance of PostgreSQL, and transactions that disturb it and us.
enum MaintenanceDiagnosis {
    /// Our tables, and the tables of Laravel that we use.
    private static let isUsed: Query = """
        (n.nspname = 'metering' OR (n.nspname = 'public' AND c.relname IN ('users', 'api_logs', 'rate_limits')))
        """

    /// Autovacuum, invalid indexes and the age of the oldest transaction id.
    static func findings(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT 'autovacuum is off on the whole server', 'Set autovacuum = on in postgresql.conf and reload.', false
            WHERE NOT current_setting('autovacuum')::boolean
            UNION ALL
            SELECT format('autovacuum is off on %s.%s', n.nspname, c.relname),
                   format('ALTER TABLE %I.%I RESET (autovacuum_enabled);', n.nspname, c.relname), false
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE \(isUsed) AND c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off']
            UNION ALL
            SELECT format('the index %s.%s is invalid', n.nspname, i.relname),
                   format('REINDEX INDEX CONCURRENTLY %I.%I;', n.nspname, i.relname), false
            FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE NOT x.indisvalid AND \(isUsed)
            UNION ALL
            SELECT format('the oldest transaction id is %s million old', age(d.datfrozenxid) / 1000000),
                   'VACUUM FREEZE as superuser, and end what holds it back: at 2100 million PostgreSQL stops.',
                   age(d.datfrozenxid) > 1500000000
            FROM pg_database d WHERE d.datname = current_database() AND age(d.datfrozenxid) > 500000000
            """)
        return try rows.map { row in
            let (message, remedy, isFailure) = try row.decode(String.self, String.self, Bool.self)
            return isFailure
                ? Finding.failure("maintenance", message, remedy) : .warning("maintenance", message, remedy)
        }.orOK("maintenance", "autovacuum is on, indexes are valid")
    }

    /// Transactions older than `limit` that hold more than a reader's lock on Laravel's tables.
    static func transactions(_ connection: Connection, longerThan limit: Duration) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a session'),
                   extract(epoch FROM clock_timestamp() - a.xact_start)::bigint,
                   string_agg(DISTINCT c.relname::text, ', ')
            FROM pg_stat_activity a
            JOIN pg_locks l ON l.pid = a.pid AND l.granted AND l.mode <> 'AccessShareLock'
            JOIN pg_class c ON c.oid = l.relation
            WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND l.relation IN (to_regclass('public.users'), to_regclass('public.api_logs'))
              AND a.xact_start < clock_timestamp() - \(limit.components.seconds) * interval '1 second'
              AND a.pid <> pg_backend_pid()
            GROUP BY a.pid, a.application_name, a.xact_start ORDER BY a.xact_start LIMIT 10
            """)
        return try rows.map { row in
            let (pid, name, seconds, tables) = try row.decode(Int.self, String.self, Int.self, String.self)
            return Finding.warning(
                "transactions", "\(name) (pid \(pid)) has held locks on \(tables) for \(seconds) s",
                "See what it does in pg_stat_activity; SELECT pg_terminate_backend(\(pid)); ends it.")
        }.orOK("transactions", "none has held users or api_logs for \(limit.components.seconds) s")
    }
}
