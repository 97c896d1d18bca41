package import Domain
package import Postgres

/// Adds the deltas of committed ingest transactions to the counters, exactly once, and shows the new counters in Laravel's
/// `rate_limits`.
package enum QuotaFold {
    /// Deltas of one transaction of the fold.
    private static let batch = 2_000

    /// Folds what is there; returns the users of whom a row of `rate_limits` is still to be set by ``RateLimitProjection``:
    /// it is missing, of another window, or held by somebody's open transaction.
    ///
    /// A delta is deleted by the transaction that adds it, so it counts once whatever dies; deltas that commit later are
    /// met by the next fold, whatever their ids. Folds go one after the other, whoever runs them, and each shows what it
    /// counted before the next one counts on.
    ///
    /// - Throws: `PostgresError`.
    package static func fold(_ connection: Connection, now: Timestamp) throws -> [Int64] {
        do {
            return try fold(connection, showing: true, now: now)
        } catch let error as PostgresError where error.sqlState == "55P03" {
            // Laravel holds a row: nobody's counters wait for it.
            return try fold(connection, showing: false, now: now)
        }
    }

    private static func fold(_ connection: Connection, showing: Bool, now: Timestamp) throws -> [Int64] {
        try connection.transaction { connection in
            try connection.execute("SELECT pg_advisory_xact_lock(hashtext('metering.quota_usage'))")
            if showing { try connection.executeScript("SET LOCAL lock_timeout = '50ms'") }
            return try connection.query(statement(showing: showing, now: now)).map { try $0.decode(0, as: Int64.self) }
        }
    }

    private static func statement(showing: Bool, now: Timestamp) -> Query {
        """
        WITH taken AS (
            DELETE FROM metering.quota_deltas
            WHERE id = ANY(ARRAY(SELECT id FROM metering.quota_deltas ORDER BY id LIMIT \(batch)))
            RETURNING user_ids, days, tokens, requests, costs
        ), counted AS (
            INSERT INTO metering.quota_usage AS q (user_id, period, window_start, tokens, requests, cost)
            SELECT d.user_id, w.period, w.window_start,
                   least(sum(d.tokens), 9223372036854775807)::bigint, sum(d.requests), coalesce(sum(d.cost), 0)
            FROM taken t
            CROSS JOIN LATERAL unnest(t.user_ids, t.days, t.tokens, t.requests, t.costs)
                AS d (user_id, day, tokens, requests, cost)
            CROSS JOIN LATERAL (
                VALUES ('daily', d.day), ('monthly', date_trunc('month', d.day::timestamp)::date)
            ) AS w (period, window_start)
            GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1
            ON CONFLICT (window_start, period, user_id) DO UPDATE
            SET tokens = least(q.tokens::numeric + excluded.tokens, 9223372036854775807)::bigint,
                requests = q.requests + excluded.requests, cost = q.cost + excluded.cost
            RETURNING user_id, period, window_start, tokens, requests
        ), \(RateLimitProjection.windows(at: now)), current AS MATERIALIZED (
            SELECT c.user_id, c.period, b.reset_at, least(c.tokens, 2147483647)::integer AS tokens,
                   least(c.requests, 2147483647)::integer AS requests
            FROM counted c JOIN bound b USING (period, window_start)
        ), shown AS (
            UPDATE public.rate_limits r
            SET used_tokens = c.tokens, used_requests = c.requests,
                updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
            FROM current c
            WHERE \(showing) AND r.user_id = c.user_id AND r.period = c.period AND r.reset_at = c.reset_at
            RETURNING r.user_id
        )
        SELECT user_id
        FROM (SELECT user_id, 1 AS rows FROM current UNION ALL SELECT user_id, -1 FROM shown) r
        GROUP BY user_id
        HAVING sum(rows) > 0
        ORDER BY user_id
        """
    }
}
