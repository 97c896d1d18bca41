package import Domain
package import Postgres

/// A user who has used most of a limit, or all of it, in a current window: of their limits the one that is used most.
package struct LimitPressure: Sendable, Hashable {
    /// What a limit counts. A budget is in USD.
    package enum Measure: String, Sendable, CaseIterable {
        case requests, tokens, budget
    }

    /// The users that are listed, and how many there are.
    package struct List: Sendable, Hashable {
        /// The worst first.
        package let users: [LimitPressure]
        /// All users who have used four fifths of a limit or more.
        package let count: Int
        /// Those of them who have used all of it.
        package let exhausted: Int
    }

    /// The user's id.
    package let userID: Int64
    /// The user's name.
    package let name: String
    /// The user's plan.
    package let plan: String
    /// The kind of window.
    package let period: QuotaPeriod
    /// What the limit counts.
    package let measure: Measure
    /// The amount that is used, as a decimal number.
    package let used: String
    /// The limit, as a decimal number.
    package let limit: String
    /// `used` of `limit`; 1 where the limit is zero.
    package let ratio: Double

    /// The active users who have used at least four fifths of a limit, at most `limit` of them.
    ///
    /// It is one statement for all users. It reads the counters of the current windows by their index, and adds deltas
    /// that are not counted yet, as ``LimitStatus`` does.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(limit: Int, _ connection: Connection, now: Timestamp) throws -> List {
        let rows = try connection.query(statement(limit: limit, now: now))
        let users = try rows.compactMap { row in
            let (id, name, plan, period, measure, used, limit, ratio) = try row.decode(
                Int64.self, String.self, String.self, String.self, String.self, String.self, String.self, Double.self)
            guard let period = QuotaPeriod(rawValue: period), let measure = Measure(rawValue: measure) else {
                return LimitPressure?.none
            }
            return LimitPressure(
                userID: id, name: name, plan: plan, period: period, measure: measure, used: used, limit: limit,
                ratio: ratio)
        }
        return List(
            users: users, count: try rows.first?.decode(8, as: Int.self) ?? 0,
            exhausted: try rows.first?.decode(9, as: Int.self) ?? 0)
    }

    private static func statement(limit: Int, now: Timestamp) -> Query {
        """
        WITH bound (period, window_start, reset_at) AS MATERIALIZED (
            SELECT w.period, date_trunc(w.unit, n.utc)::date, (date_trunc(w.unit, n.utc) + w.length)::date
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                 (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                 AS w (period, unit, length)
        ), pending AS MATERIALIZED (
            SELECT d.user_id, b.period, sum(d.tokens) AS tokens, sum(d.requests) AS requests,
                   sum(metering.finite(d.cost)) AS cost
            FROM metering.quota_deltas q
            CROSS JOIN LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests, q.costs)
                AS d (user_id, day, tokens, requests, cost)
            JOIN bound b ON d.day >= b.window_start AND d.day < b.reset_at
            GROUP BY d.user_id, b.period
        ), counted AS (
            SELECT q.user_id, q.period, q.tokens, q.requests, q.cost
            FROM bound b JOIN metering.quota_usage q ON q.window_start = b.window_start AND q.period = b.period
        ), used AS (
            SELECT user_id, period, coalesce(c.tokens, 0)::numeric + coalesce(p.tokens, 0) AS tokens,
                   coalesce(c.requests, 0)::numeric + coalesce(p.requests, 0) AS requests,
                   coalesce(c.cost, 0) + coalesce(p.cost, 0) AS cost
            FROM counted c FULL JOIN pending p USING (user_id, period)
        ), least AS (
            SELECT p.period, min(p.requests) AS requests, min(p.tokens) AS tokens
            FROM metering.plan_limits p GROUP BY p.period
        ), near AS MATERIALIZED (
            -- Nearly all users are far from their own limit and from the least of all plans, so the rest is asked of
            -- few.
            SELECT s.*, l.requests AS own_requests, l.tokens AS own_tokens,
                   CASE WHEN l.budget IS NOT NULL THEN metering.finite(l.budget) END AS budget
            FROM used s
            LEFT JOIN least p ON p.period = s.period
            LEFT JOIN metering.user_limits l ON l.user_id = s.user_id AND l.period = s.period
            WHERE 5 * s.requests >= 4 * coalesce(l.requests, p.requests)::numeric
               OR 5 * s.tokens >= 4 * coalesce(l.tokens, p.tokens)::numeric OR l.budget IS NOT NULL
        ), pressed AS (
            SELECT u.id, \(UserColumn.name) AS name, \(UserColumn.plan) AS plan, s.period, s.requests, s.tokens, s.cost,
                   s.budget, coalesce(s.own_requests, p.requests) AS most_requests,
                   coalesce(s.own_tokens, p.tokens) AS most_tokens
            FROM near s
            -- Each user by the index, however many the planner expects.
            CROSS JOIN LATERAL (
                SELECT u.id, u.name, u.plan FROM public.users u
                WHERE u.id = s.user_id AND u.status = 'active' OFFSET 0
            ) u
            LEFT JOIN metering.plan_limits p ON p.plan = u.plan AND p.period = s.period
        ), worst AS (
            SELECT DISTINCT ON (s.id) s.id, s.name, s.plan, s.period, m.measure, m.used, m.most,
                   CASE WHEN m.most > 0 THEN m.used / m.most ELSE 1 END AS ratio
            FROM pressed s
            CROSS JOIN LATERAL (
                VALUES ('requests', s.requests, s.most_requests::numeric), ('tokens', s.tokens, s.most_tokens::numeric),
                       ('budget', s.cost, s.budget)
            ) AS m (measure, used, most)
            WHERE m.used > 0 AND 5 * m.used >= 4 * m.most
            ORDER BY s.id, ratio DESC, s.period, m.measure
        )
        SELECT u.id, u.name, u.plan, u.period, u.measure, u.used::text, u.most::text, round(u.ratio, 4)::float8,
               count(*) OVER (), count(*) FILTER (WHERE u.used >= u.most) OVER ()
        FROM worst u
        -- Last, as it takes some microseconds of each user.
        WHERE \(SoftDeletes.isPresent)
        ORDER BY u.ratio DESC, u.id LIMIT \(limit)
        """
    }
}
