package import Domain
package import Postgres

extension CallAuthorization {
    /// What the present holder of a key may use at `now`; `nil` if no user is known to hold it, or a soft-deleted one
    /// does.
    ///
    /// It is one statement. What is used is exact up to the last commit, as deltas that are not counted yet are added.
    /// All rows are found by a primary key except the deltas, of which there is at most a second's worth.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(
        _ key: KeyHash, _ connection: Connection, now: Timestamp
    ) throws -> CallAuthorization? {
        try find(
            "metering.api_keys k JOIN public.users u ON u.id = k.user_id",
            where: """
                k.key_hash = \(key.bytes)::bytea AND k.valid_to IS NULL
                AND sha256(convert_to(u.api_key, 'UTF8')) = k.key_hash
                """, connection, now: now)
    }

    /// What the user `id` may use at `now`, by the same statement.
    static func find(user id: Int64, _ connection: Connection, now: Timestamp) throws -> CallAuthorization? {
        try find("public.users u", where: "u.id = \(id)", connection, now: now)
    }

    /// The authorization of the user `u` of `source`.
    private static func find(
        _ source: Query, where condition: Query, _ connection: Connection, now: Timestamp
    ) throws -> CallAuthorization? {
        let rows = try connection.query(statement(source, where: condition, now: now))
        guard let first = rows.first else { return nil }
        let (id, name, plan, status, models, isUnverified) = try first.decode(
            Int64.self, String.self, String.self, String.self, [String]?.self, Bool.self)
        return CallAuthorization(
            userID: id, name: name, plan: plan, status: status, isUnverified: isUnverified, models: models,
            windows: try rows.compactMap(window))
    }

    private static func window(_ row: Row) throws -> Window? {
        let (period, resetsAt): (String, Int64) = (try row.decode("period"), try row.decode("resets_at"))
        guard let period = QuotaPeriod(rawValue: period) else { return nil }
        // With NaN in a budget or in its usage nothing can be decided.
        let (budget, cost): (String?, String) = (try row.decode("budget"), try row.decode("cost"))
        let (limit, used) = (budget.flatMap(Money.init), Money(cost))
        return Window(
            period: period, resetsAt: Timestamp(microseconds: resetsAt),
            requests: Allowance(limit: try row.decode("limit_requests"), used: try row.decode("requests")),
            tokens: Allowance(limit: try row.decode("limit_tokens"), used: try row.decode("tokens")),
            cost: Allowance(limit: limit, used: used ?? .zero),
            isComputable: budget == nil || limit != nil && used != nil)
    }

    private static func statement(_ source: Query, where condition: Query, now: Timestamp) -> Query {
        """
        WITH holder AS MATERIALIZED (
            SELECT u.id, u.name, u.plan, u.status, m.models, \(Registration.isUnverified) AS is_unverified
            FROM \(source)
            LEFT JOIN metering.user_models m ON m.user_id = u.id
            WHERE \(condition) AND \(SoftDeletes.isPresent)
        ), pending AS MATERIALIZED (
            SELECT d.day, sum(d.tokens) AS tokens, sum(d.requests) AS requests, sum(metering.finite(d.cost)) AS cost
            FROM metering.quota_deltas q,
                 LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests, q.costs)
                     AS d (user_id, day, tokens, requests, cost)
            WHERE q.user_ids @> ARRAY(SELECT id FROM holder) AND d.user_id = (SELECT id FROM holder)
            GROUP BY d.day
        )
        SELECT h.id, coalesce(h.name, ''), coalesce(h.plan, ''), coalesce(h.status, ''), h.models, h.is_unverified,
               w.period,
               \(microseconds: "(w.ends_at AT TIME ZONE 'UTC')") AS resets_at,
               \(Registration.limit("coalesce(l.requests, p.requests)", unless: "h.is_unverified")) AS limit_requests,
               \(Registration.limit("coalesce(l.tokens, p.tokens)", unless: "h.is_unverified")) AS limit_tokens,
               (\(Registration.limit("l.budget", unless: "h.is_unverified")))::text AS budget,
               \(unsafeSQL: Query.saturated("coalesce(q.requests, 0)::numeric + coalesce(d.requests, 0)"))
                   AS requests,
               \(unsafeSQL: Query.saturated("coalesce(q.tokens, 0)::numeric + coalesce(d.tokens, 0)")) AS tokens,
               (coalesce(q.cost, 0) + coalesce(d.cost, 0))::text AS cost
        FROM holder h
        CROSS JOIN (
            SELECT v.period, date_trunc(v.unit, n.utc) AS starts_at, date_trunc(v.unit, n.utc) + v.length AS ends_at
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                 (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                 AS v (period, unit, length)
        ) w
        LEFT JOIN metering.plan_limits p ON p.plan = h.plan AND p.period = w.period
        LEFT JOIN metering.user_limits l ON l.user_id = h.id AND l.period = w.period
        LEFT JOIN metering.quota_usage q
            ON q.user_id = h.id AND q.period = w.period AND q.window_start = w.starts_at::date
        LEFT JOIN LATERAL (
            SELECT sum(s.requests) AS requests, sum(s.tokens) AS tokens, sum(s.cost) AS cost
            FROM pending s WHERE s.day >= w.starts_at AND s.day < w.ends_at
        ) d ON true
        ORDER BY w.period
        """
    }
}

/// What a user may still report of their own usage: what is left of the limits of the present day and month, and never
/// more than one log of Laravel holds.
package struct ReportAllowance: Sendable, Hashable {
    /// Requests.
    package private(set) var requests: Int64 = .max
    /// Input and output tokens together.
    package private(set) var tokens = Int64(Int32.max)
    /// The cost.
    package private(set) var cost = Money(picodollars: Int128(Cost.maximumMicrodollars) * 1_000_000)

    /// The allowance of `user` at `now`; `nil` for an event that is stored already, which adds nothing.
    ///
    /// - Throws: ``AppError`` `.notFound` for an unknown user; ``PostgresError``.
    package static func read(
        of user: Int64, for key: EventKey, _ connection: Connection, now: Timestamp
    ) throws -> ReportAllowance? {
        guard try StoredEvents.find([key], on: connection).isEmpty else { return nil }
        guard let authorization = try CallAuthorization.find(user: user, connection, now: now) else {
            throw AppError(.notFound, "There is no such user.")
        }
        var allowance = ReportAllowance()
        for window in authorization.windows {
            allowance.requests = min(allowance.requests, window.requests.remaining ?? .max)
            allowance.tokens = min(allowance.tokens, window.tokens.remaining ?? .max)
            allowance.cost =
                window.isComputable ? min(allowance.cost, window.cost.remaining ?? allowance.cost) : .zero
        }
        return allowance
    }
}
