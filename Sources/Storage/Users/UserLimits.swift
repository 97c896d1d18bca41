package import Domain
package import Postgres

/// What an operator allows one user instead of the plan's limits.
package enum UserLimits {
    /// A limit of one window that is to be set.
    package enum Change<Amount: Sendable & Hashable>: Sendable, Hashable {
        case keep
        /// The plan's again, or none where a plan has none.
        case clear
        case set(Amount)

        fileprivate var isKept: Bool { self == .keep }
        fileprivate var amount: Amount? { if case .set(let amount) = self { amount } else { nil } }
    }

    /// Changes what is not `.keep` of a user's limits in one window.
    ///
    /// - Throws: ``AppError`` `.notFound` when nobody has the e-mail.
    package static func change(
        email: String, period: QuotaPeriod, requests: Change<Int64>, tokens: Change<Int64>, budget: Change<USD>,
        _ connection: Connection
    ) throws {
        let changed = try connection.execute(
            """
            INSERT INTO metering.user_limits AS l (user_id, period, requests, tokens, budget)
            SELECT u.id, \(period.rawValue), \(requests.amount as Int64?)::bigint, \(tokens.amount as Int64?)::bigint,
                   \(budget.amount?.description as String?)::numeric
            FROM public.users u WHERE u.email = \(email)
            ON CONFLICT (user_id, period) DO UPDATE
            SET requests = CASE WHEN \(requests.isKept) THEN l.requests ELSE excluded.requests END,
                tokens = CASE WHEN \(tokens.isKept) THEN l.tokens ELSE excluded.tokens END,
                budget = CASE WHEN \(budget.isKept) THEN l.budget ELSE excluded.budget END
            """)
        if changed == 0 { throw AppError(.notFound, "No user has this e-mail.") }
    }

    /// Lets a user call these models only, by the names that LiteLLM offers; `nil` for all.
    ///
    /// - Throws: ``AppError`` `.notFound` when nobody has the e-mail.
    package static func allow(models: [String]?, email: String, _ connection: Connection) throws {
        let rows = try connection.query("SELECT id FROM public.users WHERE email = \(email)")
        guard let user = try rows.first?.decode(0, as: Int64.self) else {
            throw AppError(.notFound, "No user has this e-mail.")
        }
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
