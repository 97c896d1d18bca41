/// The calendar windows, in UTC, in which a user's usage is limited. Laravel's `rate_limits.period` has the same names.
package enum QuotaPeriod: String, Sendable, CaseIterable {
    case daily
    case monthly
}

/// What one stored event adds to its user's counters.
package struct QuotaContribution: Sendable, Hashable {
    /// 1, or 0 for an event that does not count.
    package var requests: Int64
    /// Input and output tokens.
    package var tokens: Int64

    /// The one rule of what counts toward a quota. Successes and documented events count as in Laravel. A cache hit is
    /// a request without tokens. A rate-limited event, and a failure from LiteLLM without tokens and cost, count
    /// nothing.
    package init(of event: UsageEvent) {
        let (sum, overflow) = event.inputTokens.addingReportingOverflow(event.outputTokens)
        let tokens = overflow ? .max : sum
        switch (event.status, event.shape) {
        case (.rateLimited, _):
            (requests, self.tokens) = (0, 0)
        case (.error, .litellm) where tokens == 0 && event.cost?.isZero ?? true:
            (requests, self.tokens) = (0, 0)
        default:
            (requests, self.tokens) = (1, event.isCacheHit ? 0 : tokens)
        }
    }
}

/// The user of a key before a call: who it is, and what the user may still use.
package struct CallAuthorization: Sendable, Hashable {
    /// What a user may use in one window, and what is used of it.
    package struct Allowance<Amount: Sendable & Hashable>: Sendable, Hashable {
        /// `nil` without a limit.
        package let limit: Amount?
        /// What was used in the window.
        package let used: Amount

        /// `used` of `limit`.
        package init(limit: Amount?, used: Amount) {
            self.limit = limit
            self.used = used
        }
    }

    /// One of the user's current windows.
    package struct Window: Sendable, Hashable {
        /// The kind of window.
        package let period: QuotaPeriod
        /// The end of the window.
        package let resetsAt: Timestamp
        /// Requests.
        package let requests: Allowance<Int64>
        /// Input and output tokens together.
        package let tokens: Allowance<Int64>
        /// The cost in USD.
        package let cost: Allowance<Money>
        /// Whether the budget and what is used of it are numbers. What is left is unknown otherwise.
        package let isComputable: Bool

        /// A window with these allowances.
        package init(
            period: QuotaPeriod, resetsAt: Timestamp, requests: Allowance<Int64>, tokens: Allowance<Int64>,
            cost: Allowance<Money>, isComputable: Bool = true
        ) {
            self.period = period
            self.resetsAt = resetsAt
            self.requests = requests
            self.tokens = tokens
            self.cost = cost
            self.isComputable = isComputable
        }
    }

    /// Why the user may make no call.
    package enum Refusal: String, Sendable {
        case suspended, unverified, requests, tokens, budget
        /// A limit cannot be computed, as the budget or what is used of it is no number.
        case limitUnknown = "limit_unknown"
    }

    /// Laravel's id of the user.
    package let userID: Int64
    /// The user's name.
    package let name: String
    /// The user's plan.
    package let plan: String
    /// Laravel's `users.status`.
    package let status: String
    /// Whether the account was registered and its email address is not verified. Every limit is zero then.
    package let isUnverified: Bool
    /// The models that the user may call; `nil` for all.
    package let models: [String]?
    /// The current windows, daily before monthly.
    package let windows: [Window]

    /// The authorization of a user.
    package init(
        userID: Int64, name: String, plan: String, status: String, isUnverified: Bool = false, models: [String]?,
        windows: [Window]
    ) {
        self.userID = userID
        self.name = name
        self.plan = plan
        self.status = status
        self.isUnverified = isUnverified
        self.models = models
        self.windows = windows
    }

    /// Why the next call is refused, judged from the stored events; `nil` if it is not.
    package var refusal: Refusal? {
        guard status == "active" else { return .suspended }
        if isUnverified { return .unverified }
        guard windows.allSatisfy(\.isComputable) else { return .limitUnknown }
        for window in windows {
            if window.requests.isSpent { return .requests }
            if window.tokens.isSpent { return .tokens }
            if window.cost.isSpent { return .budget }
        }
        return nil
    }
}

extension CallAuthorization.Allowance where Amount: Comparable & AdditiveArithmetic {
    /// Whether nothing is left.
    package var isSpent: Bool { limit.map { used >= $0 } ?? false }

    /// What is left, not below zero; `nil` without a limit.
    package var remaining: Amount? { limit.map { max($0 - used, .zero) } }
}
