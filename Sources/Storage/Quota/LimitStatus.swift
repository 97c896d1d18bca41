package import Domain
package import Postgres

/// How much of a window's limits a user has used; the truth, of which `rate_limits` is a copy.
package struct LimitStatus: Sendable, Hashable {
    /// Something that is limited.
    package struct Amount: Sendable, Hashable {
        package let limit: Int64
        package let used: Int64
        package var remaining: Int64 { max(0, limit - used) }
    }

    package let period: QuotaPeriod
    package let tokens: Amount
    package let requests: Amount
    /// When the window began and when it ends.
    package let startedAt: Timestamp
    package let resetsAt: Timestamp
    /// Whether the limits are the user's own, and not the plan's.
    package let isOwn: Bool

    /// The current windows of the user `id`, daily then monthly; a window without any limit is left out.
    ///
    /// What the fold has not added yet is added here, so that the answer is current whether anybody folds or not.
    package static func read(_ user: Int64, _ connection: Connection, now: Timestamp) throws -> [LimitStatus] {
        let rows = try connection.query(
            """
            WITH bound (period, window_start, reset_at) AS (
                SELECT w.period, date_trunc(w.unit, n.utc)::date, (date_trunc(w.unit, n.utc) + w.length)::date
                FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                     (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                     AS w (period, unit, length)
            ), pending AS (
                SELECT d.day, d.tokens, d.requests
                FROM metering.quota_deltas q
                CROSS JOIN LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests) AS d (user_id, day, tokens, requests)
                WHERE d.user_id = \(user)
            )
            SELECT b.period, \(Registration.limit("coalesce(l.tokens, p.tokens)")),
                   \(Registration.limit("coalesce(l.requests, p.requests)")),
                   \(unsafeSQL: UsageMeasures.saturated("coalesce(q.tokens, 0)::numeric + coalesce(s.tokens, 0)")),
                   \(unsafeSQL: UsageMeasures.saturated("coalesce(q.requests, 0)::numeric + coalesce(s.requests, 0)")),
                   \(microseconds: "(b.window_start::timestamp AT TIME ZONE 'UTC')"),
                   \(microseconds: "(b.reset_at::timestamp AT TIME ZONE 'UTC')"), l.tokens IS NOT NULL OR l.requests IS NOT NULL
            FROM public.users u
            CROSS JOIN bound b
            LEFT JOIN metering.plan_limits p ON p.plan = u.plan AND p.period = b.period
            LEFT JOIN metering.user_limits l ON l.user_id = u.id AND l.period = b.period
            LEFT JOIN metering.quota_usage q
                ON q.user_id = u.id AND q.period = b.period AND q.window_start = b.window_start
            LEFT JOIN LATERAL (
                SELECT sum(d.tokens) AS tokens, sum(d.requests) AS requests FROM pending d
                WHERE d.day >= b.window_start AND d.day < b.reset_at
            ) s ON true
            WHERE u.id = \(user) AND (\(Registration.limit("coalesce(l.tokens, p.tokens)"))) IS NOT NULL
            ORDER BY b.period
            """)
        return try rows.compactMap { row in
            let (period, tokens, requests, usedTokens, usedRequests, start, end, isOwn) = try row.decode(
                String.self, Int64.self, Int64.self, Int64.self, Int64.self, Int64.self, Int64.self, Bool.self)
            return QuotaPeriod(rawValue: period).map {
                LimitStatus(
                    period: $0, tokens: Amount(limit: tokens, used: usedTokens),
                    requests: Amount(limit: requests, used: usedRequests), startedAt: Timestamp(microseconds: start),
                    resetsAt: Timestamp(microseconds: end), isOwn: isOwn)
            }
        }
    }
}
