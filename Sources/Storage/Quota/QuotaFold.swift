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
    /// counted before the next one counts on; where somebody holds a row it shows nothing, and returns everybody.
    ///
    /// - Throws: `PostgresError`.
    package static func fold(_ connection: Connection, now: Timestamp) throws -> [Int64] {
        let rows = try connection.transaction { connection in
            // The others wait: not longer than this for a process that stopped in between.
            try connection.executeScript("SET LOCAL idle_in_transaction_session_timeout = '5s'")
            try keepOut(connection)
            do {
                return try connection.savepoint { connection in
                    try connection.executeScript("SET LOCAL lock_timeout = '50ms'")
                    return try connection.query(statement(now: now, shown: shown(now: now)))
                }
            } catch let error as PostgresError where error.sqlState == "55P03" {
                // Somebody holds a row, or Laravel alters the table: nobody's counters wait for it.
                return try connection.query(statement(now: now, shown: shownNothing))
            }
        }
        return try rows.map { try $0.decode(0, as: Int64.self) }
    }

    /// Waits for a fold to end, and keeps others out for the transaction.
    static func keepOut(_ connection: Connection) throws {
        try connection.execute("SELECT pg_advisory_xact_lock(hashtext('metering.quota_usage'))")
    }

    /// Counts in the open transaction, which keeps others out, every delta there is; shows nothing.
    static func countAll(_ connection: Connection, now: Timestamp) throws {
        let waiting = try connection.query("SELECT count(*) FROM metering.quota_deltas")[0].decode(0, as: Int.self)
        for _ in 0...(waiting / batch) { try connection.execute(statement(now: now, shown: shownNothing)) }
    }

    private static let shownNothing: Query = "SELECT NULL::bigint AS user_id WHERE false"

    /// Sets the rows of the windows that were counted in.
    private static func shown(now: Timestamp) -> Query {
        """
        UPDATE public.rate_limits r
        SET limit_tokens = t.limit_tokens, used_tokens = t.used_tokens, limit_requests = t.limit_requests,
            used_requests = t.used_requests, updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
        FROM truth t
        WHERE r.user_id = t.user_id AND r.period = t.period AND r.reset_at = t.reset_at
        RETURNING r.user_id
        """
    }

    private static func statement(now: Timestamp, shown: Query) -> Query {
        """
        WITH taken AS (
            DELETE FROM metering.quota_deltas
            WHERE id = ANY(ARRAY(SELECT id FROM metering.quota_deltas ORDER BY id LIMIT \(batch)))
            RETURNING user_ids, days, tokens, requests, costs
        ), counted AS (
            INSERT INTO metering.quota_usage AS q (user_id, period, window_start, tokens, requests, cost)
            SELECT d.user_id, w.period, w.window_start,
                   least(sum(d.tokens), 9223372036854775807)::bigint, sum(d.requests), coalesce(sum(metering.finite(d.cost)), 0)
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
        ), \(RateLimitProjection.windows(at: now)), usage AS (
            SELECT c.* FROM counted c JOIN bound b USING (period, window_start)
        ), \(RateLimitProjection.truth(
            from: "usage q JOIN public.users u ON u.id = q.user_id JOIN bound b ON b.period = q.period", where: "true")),
        shown AS (
            \(shown)
        ), unset AS (
            SELECT user_id, 1 AS rows FROM truth
            UNION ALL SELECT user_id, -1 FROM shown
            -- A window that began since.
            UNION ALL SELECT c.user_id, 1 FROM counted c JOIN bound b USING (period) WHERE c.window_start > b.window_start
        )
        SELECT user_id FROM unset GROUP BY user_id HAVING sum(rows) > 0 ORDER BY user_id
        """
    }
}
