import Domain
import Postgres
import Storage
import TestSupport

/// Fills a migrated database as a year of service leaves it: rows, facts, counters and sums that belong together.
struct Filling: Sendable {
    /// Goes up whenever what is filled changes, so that no run begins with what an older one filled.
    static let edition = 2

    private static let year = 365.0 * 86_400
    /// Events of one transaction.
    private static let chunk = 100_000
    private static let connections = 2

    let pool: ConnectionPool
    let rows: Int
    /// How many calls a user makes in a row.
    let burst: Int
    let now: Timestamp
    let log: @Sendable (String) -> Void

    /// Throws `PostgresError`, and ``WrongResult`` where what it made is not consistent.
    func fill() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        log("filling a database with \(rows) rows; the next run of this size begins with it")
        try await pool.withConnection { try Person.insertAll($0, now: now) }
        try await fillEvents()
        log("  counters")
        try await pool.withConnection { connection in
            try fillCounters(connection)
            try RateLimitProjection.project(connection, .all, now: now)
            try connection.execute("SELECT setval('public.api_logs_id_seq', \(rows))")
            try Installation.recordHighestIDs(connection)
        }
        // For the question which facts are new (DatabaseGrowth): a scan of all would cool every cache. BRIN costs ingest next to
        // nothing, as a new range of pages is in no index until a VACUUM puts it there.
        try await pool.withConnection {
            try $0.executeScript("CREATE INDEX ON metering.events USING brin (api_log_id)")
        }
        log("  sums")
        try await pool.withConnection { try $0.executeScript("ANALYZE") }
        _ = try await UsagePass(pool: pool, now: { .now }).run()
        log("  VACUUM")
        try await pool.withConnection { try $0.executeScript("VACUUM (FREEZE, ANALYZE)") }
        try await requireConsistency()
        log("  done after \(((clock.now - start) / .seconds(1)).shown()) s")
    }

    private func fillEvents() async throws {
        let chunks = stride(from: 1, through: rows, by: Self.chunk).map { ($0, min($0 + Self.chunk - 1, rows)) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, chunk) in chunks.enumerated() {
                if index >= Self.connections { try await group.next() }
                let spacing = Self.year / Double(rows)
                let bulk = EventBulk(
                    ids: chunk.0...chunk.1, end: now.advanced(by: .seconds(-spacing * Double(rows - chunk.1))),
                    spacing: spacing, isCounted: true, burst: burst)
                group.addTask { try await pool.withConnection { try bulk.insert($0) } }
                let percent = chunk.0 * 100 / rows
                if percent / 10 > (chunk.0 - Self.chunk) * 100 / rows / 10 { log("  \(percent) %") }
            }
            try await group.waitForAll()
        }
    }

    private func fillCounters(_ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
            SELECT e.user_id, w.period, date_trunc(w.unit, e.occurred_at AT TIME ZONE 'UTC')::date AS window_start,
                   sum(e.quota_tokens), sum(e.quota_requests)
            FROM metering.events e CROSS JOIN (VALUES ('daily', 'day'), ('monthly', 'month')) AS w (period, unit)
            WHERE e.quota_requests > 0
            GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1
            """)
    }

    private func requireConsistency() async throws {
        let wrong = try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT (SELECT count(*) FROM public.api_logs) <> \(rows)
                    OR (SELECT count(*) FROM metering.events) <> \(rows)
                    OR (SELECT sum(requests) FROM metering.usage_quarters WHERE user_id <> 0) <> \(rows)
                    OR (SELECT sum(requests) FROM metering.usage_quarters WHERE user_id = 0) <> \(rows)
                    OR EXISTS (
                        SELECT FROM public.api_logs l LEFT JOIN public.users u ON u.id = l.user_id WHERE u.id IS NULL)
                """)[0].decode(0, as: Bool.self)
        }
        try WrongResult.require(!wrong, "The filled database is not what it should be.")
    }
}
