package import Postgres

/// Adds the deltas of committed ingest transactions to the counters, exactly once.
package enum QuotaFold {
    /// Deltas of one transaction of the fold.
    private static let batch = 2_000

    /// Folds what is there and returns the users it touched.
    ///
    /// A delta is deleted by the transaction that adds it, so it counts once whatever dies; deltas that commit later are
    /// met by the next fold, whatever their ids. Two folds at once take different deltas, and upsert in one order.
    package static func fold(_ connection: Connection) throws -> [Int64] {
        let rows = try connection.query(
            """
            WITH taken AS (
                DELETE FROM metering.quota_deltas
                WHERE id IN (SELECT id FROM metering.quota_deltas ORDER BY id LIMIT \(batch) FOR UPDATE SKIP LOCKED)
                RETURNING user_ids, days, tokens, requests, costs
            ), usage AS (
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
                RETURNING user_id
            )
            SELECT DISTINCT user_id FROM usage ORDER BY user_id
            """)
        return try rows.map { try $0.decode(0, as: Int64.self) }
    }
}
