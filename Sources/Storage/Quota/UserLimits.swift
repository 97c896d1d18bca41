package import Domain
package import Postgres

/// A user's own limits, in place of the plan's.
package enum UserLimits {
    /// A new value of a limit.
    package enum Setting<Amount: Sendable & Hashable>: Sendable, Hashable {
        case keep
        /// The plan's limit again, or none if the plan has none.
        case clear
        case set(Amount)

        fileprivate var isKept: Bool { self == .keep }
        fileprivate var amount: Amount? { if case .set(let amount) = self { amount } else { nil } }
    }

    /// The new limits of one window.
    package struct Change: Sendable, Hashable {
        /// The most requests.
        package var requests: Setting<Int64>
        /// The most tokens.
        package var tokens: Setting<Int64>
        /// The most cost in USD.
        package var budget: Setting<Money>

        /// A change of these limits.
        package init(
            requests: Setting<Int64> = .keep, tokens: Setting<Int64> = .keep, budget: Setting<Money> = .keep
        ) {
            self.requests = requests
            self.tokens = tokens
            self.budget = budget
        }
    }

    /// Changes a user's limits in one window.
    ///
    /// - Throws: ``PostgresError``.
    package static func set(_ change: Change, _ period: QuotaPeriod, user: Int64, _ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.user_limits AS l (user_id, period, requests, tokens, budget)
            VALUES (\(user), \(period.rawValue), \(change.requests.amount as Int64?)::bigint,
                    \(change.tokens.amount as Int64?)::bigint, \(change.budget.amount?.description as String?)::numeric)
            ON CONFLICT (user_id, period) DO UPDATE
            SET requests = CASE WHEN \(change.requests.isKept) THEN l.requests ELSE excluded.requests END,
                tokens = CASE WHEN \(change.tokens.isKept) THEN l.tokens ELSE excluded.tokens END,
                budget = CASE WHEN \(change.budget.isKept) THEN l.budget ELSE excluded.budget END
            """)
    }

    /// Restricts a user to these models, by the names that LiteLLM offers; `nil` for all.
    ///
    /// - Throws: ``PostgresError``.
    package static func allow(models: [String]?, user: Int64, _ connection: Connection) throws {
        guard let models else {
            try connection.execute("DELETE FROM metering.user_models WHERE user_id = \(user)")
            return
        }
        try connection.execute(
            """
            INSERT INTO metering.user_models (user_id, models) VALUES (\(user), \(models)::text[])
            ON CONFLICT (user_id) DO UPDATE SET models = excluded.models
            """)
    }
}

/// How much of the limits of one window a user has used. Laravel's `rate_limits` is a copy of it.
package struct LimitStatus: Sendable, Hashable {
    /// A limit and its use.
    package struct Amount: Sendable, Hashable {
        /// The limit.
        package let limit: Int64
        /// The amount that is used.
        package let used: Int64
        /// The amount that is left.
        package var remaining: Int64 { max(0, limit - used) }
    }

    /// A budget and the cost that counts against it.
    package struct Budget: Sendable, Hashable {
        /// The budget.
        package let limit: Money
        /// The cost.
        package let used: Money
        /// What is left.
        package var remaining: Money { limit < used ? .zero : limit - used }
    }

    /// The kind of window.
    package let period: QuotaPeriod
    /// Tokens.
    package let tokens: Amount
    /// Requests.
    package let requests: Amount
    /// The cost in USD; `nil` where the user has no budget, or where NaN makes it unknown.
    package let budget: Budget?
    /// The begin of the window.
    package let startedAt: Timestamp
    /// The end of the window.
    package let resetsAt: Timestamp
    /// Whether the limits are the user's own and not the plan's.
    package let isOwn: Bool

    /// The current windows of `user`, daily before monthly. A window without any limit is left out.
    ///
    /// Deltas that are not counted yet are added, so that the answer does not depend on a background job.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(_ user: Int64, _ connection: Connection, now: Timestamp) throws -> [LimitStatus] {
        let rows = try connection.query(
            """
            WITH bound (period, window_start, reset_at) AS (
                SELECT w.period, date_trunc(w.unit, n.utc)::date, (date_trunc(w.unit, n.utc) + w.length)::date
                FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                     (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                     AS w (period, unit, length)
            ), pending AS (
                SELECT d.day, d.tokens, d.requests, metering.finite(d.cost) AS cost
                FROM metering.quota_deltas q
                CROSS JOIN LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests, q.costs)
                    AS d (user_id, day, tokens, requests, cost)
                WHERE d.user_id = \(user)
            )
            SELECT b.period, \(Registration.limit("coalesce(l.tokens, p.tokens)")),
                   \(Registration.limit("coalesce(l.requests, p.requests)")),
                   \(unsafeSQL: Query.saturated("coalesce(q.tokens, 0)::numeric + coalesce(s.tokens, 0)")),
                   \(unsafeSQL: Query.saturated("coalesce(q.requests, 0)::numeric + coalesce(s.requests, 0)")),
                   \(microseconds: "(b.window_start::timestamp AT TIME ZONE 'UTC')"),
                   \(microseconds: "(b.reset_at::timestamp AT TIME ZONE 'UTC')"), l.tokens IS NOT NULL
                       OR l.requests IS NOT NULL,
                   (\(Registration.limit("l.budget")))::text, (coalesce(q.cost, 0) + coalesce(s.cost, 0))::text
            FROM public.users u
            CROSS JOIN bound b
            LEFT JOIN metering.plan_limits p ON p.plan = u.plan AND p.period = b.period
            LEFT JOIN metering.user_limits l ON l.user_id = u.id AND l.period = b.period
            LEFT JOIN metering.quota_usage q
                ON q.user_id = u.id AND q.period = b.period AND q.window_start = b.window_start
            LEFT JOIN LATERAL (
                SELECT sum(d.tokens) AS tokens, sum(d.requests) AS requests, sum(d.cost) AS cost FROM pending d
                WHERE d.day >= b.window_start AND d.day < b.reset_at
            ) s ON true
            WHERE u.id = \(user) AND (\(Registration.limit("coalesce(l.tokens, p.tokens)"))) IS NOT NULL
            ORDER BY b.period
            """)
        return try rows.compactMap { row in
            let (period, tokens, requests, usedTokens, usedRequests, start, end, isOwn) = try row.decode(
                String.self, Int64.self, Int64.self, Int64.self, Int64.self, Int64.self, Int64.self, Bool.self)
            let (budget, cost) = (try row.decode(8, as: String?.self), try row.decode(9, as: String.self))
            return QuotaPeriod(rawValue: period).map {
                LimitStatus(
                    period: $0, tokens: Amount(limit: tokens, used: usedTokens),
                    requests: Amount(limit: requests, used: usedRequests),
                    budget: Budget(budget, used: cost), startedAt: Timestamp(microseconds: start),
                    resetsAt: Timestamp(microseconds: end), isOwn: isOwn)
            }
        }
    }
}

extension LimitStatus.Budget {
    /// `nil` where one of the two is missing or no amount.
    fileprivate init?(_ limit: String?, used: String) {
        guard let limit = limit.flatMap(Money.init), let used = Money(used) else { return nil }
        self.init(limit: limit, used: used)
    }
}

/// A user's request for higher limits.
package struct LimitRequest: Sendable, Hashable {
    /// The answer of an administrator.
    package struct Answer: Sendable, Hashable {
        /// Whether it is granted.
        package let isGranted: Bool
        /// A note for the user.
        package let note: String?
        /// The id of the administrator.
        package let by: Int64
        /// The time of the answer; `nil` where the column has no valid time.
        package let at: Timestamp?
    }

    /// The request's id.
    package let id: Int64
    /// The user who asks.
    package let userID: Int64
    /// The kind of window.
    package let period: QuotaPeriod
    /// The user's reason.
    package let reason: String?
    /// The time of the request; `nil` where the column has no valid time.
    package let requestedAt: Timestamp?
    /// `nil` while it is open.
    package let answer: Answer?
}

extension LimitRequest {
    /// Stores a request. If one for the same period is open, only its reason is replaced.
    ///
    /// - Throws: ``PostgresError``.
    package static func insert(
        for user: Int64, _ period: QuotaPeriod, reason: String?, _ connection: Connection, now: Timestamp
    ) throws {
        try connection.execute(
            """
            INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
            VALUES (\(user), \(period.rawValue), \(reason), \(now))
            ON CONFLICT (user_id, period) WHERE answered_at IS NULL
            DO UPDATE SET reason = excluded.reason, requested_at = excluded.requested_at
            """)
    }

    /// The requests, newest first, of one user or of all users: at most `limit`, all before `cursor`.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(
        of user: Int64? = nil, onlyOpen: Bool = false, before cursor: Int64? = nil, limit: Int = 100,
        _ connection: Connection
    ) throws -> [LimitRequest] {
        let conditions: [Query?] = [
            user.map { "r.user_id = \($0)" }, onlyOpen ? "r.answered_at IS NULL" : nil, cursor.map { "r.id < \($0)" },
        ]
        let condition: Query = conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
        return try connection.query(
            "SELECT \(columns) FROM metering.limit_requests r WHERE \(condition) ORDER BY r.id DESC LIMIT \(limit)"
        ).compactMap(LimitRequest.init)
    }

    /// The request `id`; `nil` without one.
    static func find(_ id: Int64, _ connection: Connection) throws -> LimitRequest? {
        try connection.query("SELECT \(columns) FROM metering.limit_requests r WHERE r.id = \(id)").first
            .flatMap(LimitRequest.init)
    }

    private static let columns: Query = """
        r.id, r.user_id, r.period, r.reason, \(microseconds: "r.requested_at"), r.answer, r.note, r.answered_by,
        \(microseconds: "r.answered_at")
        """

    private init?(_ row: Row) throws {
        let (id, user, period, reason, requested, answer, note, by, at) = try row.decode(
            Int64.self, Int64.self, String.self, String?.self, Int64?.self, String?.self, String?.self, Int64?.self,
            Int64?.self)
        guard let period = QuotaPeriod(rawValue: period) else { return nil }
        self.init(
            id: id, userID: user, period: period, reason: reason,
            requestedAt: requested.map(Timestamp.init(microseconds:)),
            answer: answer.map {
                Answer(
                    isGranted: $0 == "granted", note: note, by: by ?? 0,
                    at: (at ?? requested).map(Timestamp.init(microseconds:)))
            })
    }
}
