package import Domain
package import Postgres

/// What one user is allowed instead of the plan's limits.
package enum UserLimits {
    /// A limit that is to be set.
    package enum Setting<Amount: Sendable & Hashable>: Sendable, Hashable {
        case keep
        /// The plan's again, or none where a plan has none.
        case clear
        case set(Amount)

        fileprivate var isKept: Bool { self == .keep }
        fileprivate var amount: Amount? { if case .set(let amount) = self { amount } else { nil } }
    }

    /// What is to be set of one window.
    package struct Change: Sendable, Hashable {
        package var requests: Setting<Int64>
        package var tokens: Setting<Int64>
        package var budget: Setting<Money>

        package init(
            requests: Setting<Int64> = .keep, tokens: Setting<Int64> = .keep, budget: Setting<Money> = .keep
        ) {
            self.requests = requests
            self.tokens = tokens
            self.budget = budget
        }
    }

    /// Changes a user's limits in one window.
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

    /// Lets a user call these models only, by the names that LiteLLM offers; `nil` for all.
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
