import Postgres

/// What PostgreSQL has to do by itself, and what keeps it and us from working.
enum MaintenanceDiagnosis {
    /// Our tables, and those of Laravel's that we use.
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
