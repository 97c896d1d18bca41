import Domain
import Postgres
import Storage

/// Many events at once, as ingest leaves them: rows of `api_logs` and their facts, of users drawn at random.
///
/// Four of five are LiteLLM's, whose keys lie in the order of time; the fifth is a documented one, named by its sender, whose
/// key may lie anywhere. A tenth of them is ``Person/heavyID``'s.
struct EventBulk: Sendable {
    /// In the order of time.
    var ids: ClosedRange<Int>
    /// When the last one happens.
    var end: Timestamp
    /// Seconds from one to the next.
    var spacing: Double
    /// Whether they count for quotas: then whoever inserts them owes the counters.
    var isCounted: Bool
    /// How many calls a user makes in a row.
    var burst = 1

    /// Inserts `count` events of the half hour before `now` behind the highest id, which count for no quota, and returns their
    /// ids.
    ///
    /// - Throws: `PostgresError`.
    static func insert(_ count: Int, now: Timestamp, _ connection: Connection) throws -> ClosedRange<Int> {
        let last = try connection.query(
            "SELECT setval('public.api_logs_id_seq', nextval('public.api_logs_id_seq') - 1 + \(count)::bigint)"
        )[0].decode(0, as: Int.self)
        let ids = (last - count + 1)...last
        try EventBulk(ids: ids, end: now, spacing: 1_800 / Double(count), isCounted: false).insert(connection)
        return ids
    }

    /// Foreign keys are not checked on the way: nothing else than the users made before is referred to.
    ///
    /// - Throws: `PostgresError`.
    func insert(_ connection: Connection) throws {
        try connection.transaction { connection in
            try connection.executeScript("SET LOCAL session_replication_role = replica")
            try connection.execute(
                """
                WITH event AS MATERIALIZED (
                    SELECT e.*,
                           ('{gpt-4,gpt-4o,gpt-4o-mini,claude-sonnet-4,text-embedding-3-small}'::text[])[1 + n % 5] AS model,
                           CASE WHEN e.n % 50 = 0 THEN 'error' ELSE 'success' END AS status,
                           CASE WHEN \(isCounted) AND e.n % 50 > 0 THEN 1 ELSE 0 END AS quota_requests,
                           (0.000001 * (e.input_tokens + 4 * e.output_tokens))::numeric(20, 12) AS cost
                    FROM (
                        SELECT n, date_trunc('milliseconds', \(end) - (\(ids.upperBound)::bigint - n)
                                                                      * make_interval(secs => \(spacing)))
                                   AS occurred_at,
                               CASE WHEN hashint8extended(n, 4) % 10 = 0 THEN \(Person.heavyID)::bigint
                                    ELSE \(Person.firstID)::bigint
                                         + abs(hashint8extended(n / \(burst), 0) % \(Person.count)::bigint)
                               END AS user_id,
                               50 + abs(hashint8extended(n, 1) % 4000) AS input_tokens,
                               1 + abs(hashint8extended(n, 2) % 1000) AS output_tokens
                        FROM generate_series(\(ids.lowerBound)::bigint, \(ids.upperBound)::bigint) n
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
                           quota_requests * (input_tokens + output_tokens), quota_requests, n % 3 = 0, false, cost,
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
}
