/// The calendar windows in which a user's usage is limited, in UTC; Laravel's `rate_limits.period`.
package enum QuotaPeriod: String, Sendable, CaseIterable {
    case daily
    case monthly
}

/// What one stored event adds to its user's counters.
package struct QuotaContribution: Sendable, Hashable {
    package var requests: Int64
    package var tokens: Int64

    /// The rule of `design.md` §4: successes and documented events count as in Laravel; a cache hit is a request
    /// without tokens; refusals, and LiteLLM's failures without tokens and cost, count nothing.
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
