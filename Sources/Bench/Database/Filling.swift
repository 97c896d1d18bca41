import Domain
import Postgres
import Storage
import TestSupport

/// Fills a migrated database as a year of service leaves it: rows, facts and counters that belong together.
///
/// Four of five events are LiteLLM's, whose keys lie in the order of time; the fifth is a documented one, named by its
/// sender, whose key may lie anywhere.
struct Filling: Sendable {
    /// Events of one transaction.
    private static let chunk = 100_000
    private static let connections = 2

    let pool: ConnectionPool
    let rows: Int
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
        // For the question which facts are new (LedgerGrowth): a scan of all would cool every cache. BRIN costs ingest next to
        // nothing, as a new range of pages is in no index until a VACUUM puts it there.
        try await pool.withConnection {
            try $0.executeScript("CREATE INDEX ON metering.events USING brin (api_log_id)")
        }
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
                group.addTask { try await pool.withConnection { try fill($0, from: chunk.0, through: chunk.1) } }
                let percent = chunk.0 * 100 / rows
                if percent / 10 > (chunk.0 - Self.chunk) * 100 / rows / 10 { log("  \(percent) %") }
            }
            try await group.waitForAll()
        }
    }

    /// Event `n` of `rows`, in the order of time. Foreign keys are not checked on the way: nothing else than the users made
    /// before is referred to, and ``requireConsistency()`` looks.
    private func fill(_ connection: Connection, from first: Int, through last: Int) throws {
        try connection.transaction { connection in
            try connection.executeScript("SET LOCAL session_replication_role = replica")
            try connection.execute(
                """
                WITH event AS MATERIALIZED (
                    SELECT e.*,
                           ('{gpt-4,gpt-4o,gpt-4o-mini,claude-sonnet-4,text-embedding-3-small}'::text[])[1 + n % 5] AS model,
                           CASE WHEN e.n % 50 = 0 THEN 'error' ELSE 'success' END AS status,
                           (0.000001 * (e.input_tokens + 4 * e.output_tokens))::numeric(20, 12) AS cost
                    FROM (
                        SELECT n, date_trunc('milliseconds', \(now) - (\(rows) - n) * (interval '365 days' / \(rows)))
                                   AS occurred_at,
                               \(Person.firstID)::bigint + abs(hashint8extended(n, 0) % \(Person.count)::bigint)
                                   AS user_id,
                               50 + abs(hashint8extended(n, 1) % 4000) AS input_tokens,
                               1 + abs(hashint8extended(n, 2) % 1000) AS output_tokens
                        FROM generate_series(\(first)::bigint, \(last)::bigint) n
                    ) e
                ), fact AS (
                    INSERT INTO metering.events (
                        event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens, cached_tokens,
                        reasoning_tokens, duration_ms, billable_digest, quota_tokens, quota_requests, is_stream,
                        is_cache_hit, cost, shape, status, plan, provider, model_group, model, call_type, key_hash)
                    SELECT (CASE WHEN n % 5 = 0 THEN 'ffff' || left(md5(n::text), 28)
                                 ELSE lpad(to_hex((extract(epoch FROM occurred_at) * 1000)::bigint), 12, '0')
                                      || left(md5(n::text), 20) END)::uuid,
                           n, user_id, occurred_at, input_tokens, output_tokens, 0, 0, 1250, hashint8extended(n, 3),
                           CASE status WHEN 'success' THEN input_tokens + output_tokens ELSE 0 END,
                           CASE status WHEN 'success' THEN 1 ELSE 0 END, n % 3 = 0, false, cost,
                           CASE WHEN n % 5 = 0 THEN 'documented' ELSE 'litellm' END, status, 'pro',
                           CASE WHEN n % 5 > 0 THEN 'openai' END, model,
                           CASE WHEN n % 5 > 0 THEN 'openai/' || model END,
                           CASE WHEN n % 5 > 0 THEN 'acompletion' END, sha256(user_id::text::bytea)
                    FROM event
                )
                INSERT INTO public.api_logs (
                    id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, created_at,
                    updated_at)
                SELECT n, user_id, model, input_tokens, output_tokens, cost, 1250, status,
                       date_trunc('second', occurred_at AT TIME ZONE 'UTC'),
                       date_trunc('second', occurred_at AT TIME ZONE 'UTC')
                FROM event
                ORDER BY n
                """)
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
                    OR EXISTS (
                        SELECT FROM public.api_logs l LEFT JOIN public.users u ON u.id = l.user_id WHERE u.id IS NULL)
                """)[0].decode(0, as: Bool.self)
        }
        try WrongResult.require(!wrong, "The filled database is not what it should be.")
    }
}
