package import Domain
import Postgres

/// Whose usage, and which part of it, a report is about; each condition narrows, and none means any.
package struct UsageScope: Sendable, Hashable {
    /// `nil` for everybody.
    package var users: [Int64]?
    package var models: Set<String>
    package var providers: Set<String>
    package var statuses: Set<EventStatus>
    /// The plan at the time of the call; Laravel's own rows know none.
    package var plans: Set<String>
    /// Whether it leaves out what users reported themselves, as everybody's sums do, also where they are told apart by
    /// user.
    private let leavesOutSelfReported: Bool

    package static let everybody = UsageScope()

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

    /// Whether it is about a part of its users' usage.
    var isNarrow: Bool { !(models.isEmpty && providers.isEmpty && statuses.isEmpty && plans.isEmpty) }

    /// The condition on the users of facts `alias`.
    func ofFacts(_ alias: Query) -> Query { users.map { Self.condition("\(alias).user_id", $0) } ?? "true" }

    /// The condition on the column of a user of sums: everybody's stand at user 0, which is nobody to whoever asks for it.
    func ofSums(_ column: Query, by group: UsageGroup?) -> Query {
        if let users { return Self.condition(column, users.filter { $0 != 0 }) }
        // A parameter: to the planner who knows that it is user 0, the most frequent one, an index by time looks shorter.
        return group == .user ? "\(column) <> 0" : Self.condition(column, [0])
    }

    private static func condition(_ column: Query, _ users: [Int64]) -> Query {
        users.count == 1 ? "\(column) = \(users[0])" : "\(column) = ANY(\(users)::bigint[])"
    }

    /// The condition on model, provider, status, plan and reporter of the rows `alias`.
    func ofDimension(_ alias: Query) -> Query {
        let conditions: [(Query, [String])] = [
            ("\(alias).model", models.sorted()), ("\(alias).provider", providers.sorted()),
            ("\(alias).status", statuses.map(\.rawValue).sorted()), ("\(alias).plan", plans.sorted()),
        ]
        let all: Query = leavesOutSelfReported ? "NOT \(alias).is_self_reported" : "true"
        return conditions.reduce(all) { condition, part in
            part.1.isEmpty ? condition : "\(condition) AND \(part.0) = ANY(\(part.1)::text[])"
        }
    }
}
