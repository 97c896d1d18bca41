package import Domain

/// What the groups of a report are.
package enum UsageGroup: String, Sendable, CaseIterable {
    case model, provider, status, plan
    /// By id; for the operator.
    case user
}

/// By what groups are ordered, the largest first.
package enum UsageRanking: String, Sendable, CaseIterable {
    case requests, tokens, cost
}

/// The users of a report, and the part of their usage that it counts. An empty condition excludes nothing.
package struct UsageScope: Sendable, Hashable {
    /// `nil` for all users.
    package var users: [Int64]?
    package var models: Set<String>
    package var providers: Set<String>
    package var statuses: Set<EventStatus>
    /// The plan at the time of the call. Laravel's own rows have none.
    package var plans: Set<String>
    /// Whether the report leaves out usage that users reported themselves, as the rollups of all users do. A report on
    /// all users leaves it out even if its groups are the users.
    let leavesOutSelfReported: Bool

    package static let allUsers = UsageScope()

    package static func user(_ id: Int64) -> UsageScope { UsageScope(user: id) }

    package init(
        user: Int64? = nil, models: Set<String> = [], providers: Set<String> = [],
        statuses: Set<EventStatus> = [],
        plans: Set<String> = []
    ) {
        users = user.map { [$0] }
        leavesOutSelfReported = user == nil
        self.models = models
        self.providers = providers
        self.statuses = statuses
        self.plans = plans
    }

    /// Whether the report counts only a part of its users' usage.
    var isNarrow: Bool { !(models.isEmpty && providers.isEmpty && statuses.isEmpty && plans.isEmpty) }
}
