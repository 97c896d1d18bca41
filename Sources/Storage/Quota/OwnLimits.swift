package import Domain
package import Postgres

/// What an operator has set for one user, beside what the plan has.
package struct OwnLimits: Sendable, Hashable {
    /// The limits of one window.
    package struct Window: Sendable, Hashable {
        /// The kind of window.
        package let period: QuotaPeriod
        /// The user's own limit of requests; `nil` where the plan's holds.
        package let requests: Int64?
        /// The user's own limit of tokens; `nil` where the plan's holds.
        package let tokens: Int64?
        /// The user's budget in USD, as a decimal number; `nil` without one. Plans have none.
        package let budget: String?
        /// The plan's limit of requests; `nil` where it has none.
        package let planRequests: Int64?
        /// The plan's limit of tokens; `nil` where it has none.
        package let planTokens: Int64?
        /// The cost in USD so far, as a decimal number.
        package let cost: String
    }

    /// Daily before monthly.
    package let windows: [Window]
    /// The only models that the user may call; `nil` for all.
    package let models: [String]?

    /// The limits of `user`, and the cost of the current windows. Deltas that are not counted yet are added.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(_ user: Int64, _ connection: Connection, now: Timestamp) throws -> OwnLimits {
        let rows = try connection.query(
            """
            WITH bound (period, window_start, reset_at) AS (
                SELECT w.period, date_trunc(w.unit, n.utc)::date, (date_trunc(w.unit, n.utc) + w.length)::date
                FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                     (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                     AS w (period, unit, length)
            ), pending AS (
                SELECT d.day, metering.finite(d.cost) AS cost
                FROM metering.quota_deltas q
                CROSS JOIN LATERAL unnest(q.user_ids, q.days, q.costs) AS d (user_id, day, cost)
                WHERE d.user_id = \(user)
            )
            SELECT b.period, l.requests, l.tokens,
                   CASE WHEN l.budget IS NOT NULL THEN metering.finite(l.budget) END::text, p.requests, p.tokens,
                   (coalesce(q.cost, 0) + coalesce((
                       SELECT sum(d.cost) FROM pending d
                       WHERE d.day >= b.window_start AND d.day < b.reset_at), 0))::text,
                   m.models
            FROM public.users u
            CROSS JOIN bound b
            LEFT JOIN metering.plan_limits p ON p.plan = u.plan AND p.period = b.period
            LEFT JOIN metering.user_limits l ON l.user_id = u.id AND l.period = b.period
            LEFT JOIN metering.user_models m ON m.user_id = u.id
            LEFT JOIN metering.quota_usage q
                ON q.user_id = u.id AND q.period = b.period AND q.window_start = b.window_start
            WHERE u.id = \(user)
            ORDER BY b.period
            """)
        return OwnLimits(
            windows: try rows.compactMap(Window.init), models: try rows.first?.decode(7, as: [String]?.self) ?? nil)
    }
}

extension OwnLimits.Window {
    fileprivate init?(_ row: Row) throws {
        let (period, requests, tokens, budget, planRequests, planTokens, cost) = try row.decode(
            String.self, Int64?.self, Int64?.self, String?.self, Int64?.self, Int64?.self, String.self)
        guard let period = QuotaPeriod(rawValue: period) else { return nil }
        self.init(
            period: period, requests: requests, tokens: tokens, budget: budget, planRequests: planRequests,
            planTokens: planTokens, cost: cost)
    }
}
