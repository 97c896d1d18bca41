package import Domain
import Postgres

/// Whose usage, and which part of it, a report is about; each condition narrows, and none means any.
package struct UsageScope: Sendable, Hashable {
    /// `nil` for everybody.
    package var user: Int64?
    package var models: Set<String>
    package var providers: Set<String>
    package var statuses: Set<Domain.UsageStatus>
    /// The plan at the time of the call; Laravel's own rows know none.
    package var plans: Set<String>

    package static let everybody = UsageScope()

    package static func user(_ id: Int64) -> UsageScope { UsageScope(user: id) }

    package init(
        user: Int64? = nil, models: Set<String> = [], providers: Set<String> = [],
        statuses: Set<Domain.UsageStatus> = [],
        plans: Set<String> = []
    ) {
        self.user = user
        self.models = models
        self.providers = providers
        self.statuses = statuses
        self.plans = plans
    }

    /// The condition on facts `f`.
    var ofFacts: Query { user.map { "f.user_id = \($0)" } ?? "true" }

    /// The condition on model, provider, status and plan of the rows `alias`.
    func ofDimension(_ alias: Query) -> Query {
        let conditions: [(Query, [String])] = [
            ("\(alias).model", models.sorted()), ("\(alias).provider", providers.sorted()),
            ("\(alias).status", statuses.map(\.rawValue).sorted()), ("\(alias).plan", plans.sorted()),
        ]
        return conditions.reduce("true") { condition, part in
            part.1.isEmpty ? condition : "\(condition) AND \(part.0) = ANY(\(part.1)::text[])"
        }
    }
}
