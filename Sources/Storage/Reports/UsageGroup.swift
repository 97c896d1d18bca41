import Postgres

/// What a report tells apart.
package enum UsageGroup: String, Sendable, CaseIterable {
    case model, provider, status, plan
    /// By id; for the operator.
    case user

    /// Its column of facts or dimensions `alias`; of users, who are none, of the rows `owner`.
    func column(_ alias: Query, owner: Query) -> Query {
        self == .user ? "\(owner).user_id::text" : "\(alias).\(unsafeSQL: rawValue)"
    }
}

/// By what groups are ordered, the largest first.
package enum UsageRanking: String, Sendable, CaseIterable {
    case requests, tokens, cost

    /// The measure of a cell `t`.
    var measure: Query {
        switch self {
        case .requests: "t.requests"
        case .tokens: "t.input_tokens::numeric + t.output_tokens"
        case .cost: "t.cost"
        }
    }
}
