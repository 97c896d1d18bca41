package import Domain
import Postgres
import Storage

/// What a stretch of usage adds up to.
package struct UsageTotals: Sendable, Hashable {
    package var requests: Int64 = 0
    /// Requests that failed, those over the provider's or proxy's limits not included.
    package var errors: Int64 = 0
    package var rateLimited: Int64 = 0
    /// Requests without a known price, which is not a price of zero.
    package var unpriced: Int64 = 0
    package var inputTokens: Int64 = 0
    package var outputTokens: Int64 = 0
    /// Part of ``inputTokens`` that the provider had cached.
    package var cachedTokens: Int64 = 0
    /// Part of ``outputTokens`` that was reasoning.
    package var reasoningTokens: Int64 = 0
    /// Milliseconds of all requests; one whose sender stated none adds 0, as Laravel's average has it.
    package var duration: Int64 = 0
    /// Exact, of the priced.
    package var pricedCost = Money.zero
    /// As Laravel's `numeric(10,6)` rounds each row.
    package var laravelCost = Money.zero

    package init() {}

    package static func + (left: UsageTotals, right: UsageTotals) -> UsageTotals {
        var sums = left
        for count in counts {
            let (sum, overflow) = left[keyPath: count].addingReportingOverflow(right[keyPath: count])
            sums[keyPath: count] = overflow ? .max : sum
        }
        sums.pricedCost = left.pricedCost + right.pricedCost
        sums.laravelCost = left.laravelCost + right.laravelCost
        return sums
    }

    /// Whether a count reached 2^63-1, beyond which none goes.
    var isSaturated: Bool { Self.counts.contains { self[keyPath: $0] == .max } }

    /// What is left of a whole, none of whose counts is saturated, without a part of it.
    package static func - (whole: UsageTotals, part: UsageTotals) -> UsageTotals {
        var rest = whole
        for count in counts { rest[keyPath: count] &-= part[keyPath: count] }
        rest.pricedCost = whole.pricedCost - part.pricedCost
        rest.laravelCost = whole.laravelCost - part.laravelCost
        return rest
    }

    /// Input and output; saturates at 2^63-1.
    package var tokens: Int64 {
        let (sum, overflow) = inputTokens.addingReportingOverflow(outputTokens)
        return overflow ? .max : sum
    }

    /// What it cost; `nil` where there was usage and none of it has a price.
    package var cost: Money? { requests > 0 && unpriced == requests ? nil : pricedCost }

    /// The part of the requests that failed, 0 to 1; `nil` without requests.
    package var errorRate: Double? { requests > 0 ? Double(errors) / Double(requests) : nil }

    /// Milliseconds a request; `nil` without requests.
    package var averageDuration: Double? { requests > 0 ? Double(duration) / Double(requests) : nil }
}

extension UsageTotals {
    /// Aggregates over the cells `c` of a report, in the order of ``init(_:from:)``.
    static let aggregates: Query = {
        let counts = RollupMeasures.counts.map { "\(Query.saturated("sum(c.sign * c.\($0))")) AS \($0)" }
        let amounts = RollupMeasures.amounts.map { "sum(c.sign * c.\($0)) AS \($0)" }
        let statuses = [("errors", EventStatus.error), ("rate_limited", .rateLimited)].map { name, status in
            """
            \(Query.saturated("coalesce(sum(c.sign * c.requests) FILTER (WHERE c.status = '\(status.rawValue)'), 0)")) AS \(name)
            """
        }
        return Query(unsafeSQL: (counts + statuses + amounts).joined(separator: ", "))
    }()

    /// Aggregates over rows `t` of aggregates.
    static let total: Query = {
        let counts = (RollupMeasures.counts + ["errors", "rate_limited"]).map { Query.saturated("sum(t.\($0))") }
        return Query(
            unsafeSQL: (counts + RollupMeasures.amounts.map { "trim_scale(sum(t.\($0)))" }).joined(separator: ", "))
    }()

    /// Columns that ``total`` makes.
    static let columnCount = counts.count + RollupMeasures.amounts.count

    /// Reads what ``total`` made, from the column `first` on.
    init(_ row: Row, from first: Int) throws {
        for (index, count) in Self.counts.enumerated() {
            self[keyPath: count] = try row.decode(first + index)
        }
        pricedCost = try row.decode(first + Self.counts.count)
        laravelCost = try row.decode(first + Self.counts.count + 1)
    }

    /// The whole numbers, as ``total`` orders them: those of ``RollupMeasures/counts``, then those by status.
    private static var counts: [WritableKeyPath<UsageTotals, Int64>] {
        [
            \.requests, \.unpriced, \.inputTokens, \.outputTokens, \.cachedTokens, \.reasoningTokens, \.duration,
            \.errors, \.rateLimited,
        ]
    }
}

/// How long requests took, in milliseconds, each within 2 % of the request that stands at that place when all are lined
/// up (`percentile_disc`); `nil` where no sender stated it.
package struct UsageLatency: Sendable, Hashable {
    /// One measure's places.
    package struct Percentiles: Sendable, Hashable {
        package var p50: Double
        package var p95: Double
        package var p99: Double
    }

    package var duration: Percentiles?
    /// To the first token, of streams.
    package var firstToken: Percentiles?

    package init() {}
}

extension UsageLatency {
    /// CTE `latency` of (bucket, key, six percentiles), from the CTE `cell`.
    static let query: Query = """
        element AS (
            SELECT e.bucket, e.key, e.element >> 40 AS element,
                   sum(e.sign * least(e.element & 1099511627775, 2147483647)::integer) AS count
            FROM (SELECT c.bucket, c.key, c.sign, unnest(c.histogram) AS element FROM cell c) e
            GROUP BY 1, 2, 3
        ), place AS (
            SELECT e.bucket, e.key, e.element, e.element >= 2000 AS is_first_token,
                   sum(e.count) OVER (PARTITION BY e.bucket, e.key, e.element >= 2000 ORDER BY e.element)
                   / sum(e.count) OVER (PARTITION BY e.bucket, e.key, e.element >= 2000) AS place
            FROM element e WHERE e.count > 0
        ), latency AS (
            SELECT p.bucket, p.key, \(percentiles(isFirstToken: false)), \(percentiles(isFirstToken: true))
            FROM place p GROUP BY 1, 2
        )
        """

    /// The columns of the CTE `latency`, and as many NULLs where it is not there.
    static let columns: Query = "l.d50, l.d95, l.d99, l.f50, l.f95, l.f99"
    static let noColumns: Query = "NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8"

    /// Reads ``columns`` from the column `first` on.
    init(_ row: Row, from first: Int) throws {
        duration = try Percentiles(row, from: first)
        firstToken = try Percentiles(row, from: first + 3)
    }

    private static func percentiles(isFirstToken: Bool) -> Query {
        let (letter, filter, offset) = isFirstToken ? ("f", "", " - 2000") : ("d", "NOT ", "")
        return Query(
            unsafeSQL: [50, 95, 99].map { percent in
                """
                metering.bucket_middle(min(p.element) FILTER (WHERE \(filter)p.is_first_token AND p.place >= 0.\(percent))\(offset))
                AS \(letter)\(percent)
                """
            }.joined(separator: ", "))
    }
}

extension UsageLatency.Percentiles {
    fileprivate init?(_ row: Row, from first: Int) throws {
        guard let p50 = try row.decode(first, as: Double?.self), let p95 = try row.decode(first + 1, as: Double?.self),
            let p99 = try row.decode(first + 2, as: Double?.self)
        else { return nil }
        self.init(p50: p50, p95: p95, p99: p99)
    }
}

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

/// Whose usage, and which part of it, a report is about; each condition narrows, and none means any.
package struct UsageScope: Sendable, Hashable {
    /// `nil` for all users.
    package var users: [Int64]?
    package var models: Set<String>
    package var providers: Set<String>
    package var statuses: Set<EventStatus>
    /// The plan at the time of the call; Laravel's own rows know none.
    package var plans: Set<String>
    /// Whether it leaves out what users reported themselves, as all users' sums do, also where they are distinguished
    /// by user.
    private let leavesOutSelfReported: Bool

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

    /// Whether it is about a part of its users' usage.
    var isNarrow: Bool { !(models.isEmpty && providers.isEmpty && statuses.isEmpty && plans.isEmpty) }

    /// The condition on the users of facts `alias`.
    func ofFacts(_ alias: Query) -> Query { users.map { Self.condition("\(alias).user_id", $0) } ?? "true" }

    /// The condition on the column `user_id` of rollups. Those of all users have `user_id` 0, which no API user can
    /// have.
    func ofSums(_ column: Query, by group: UsageGroup?) -> Query {
        if let users { return Self.condition(column, users.filter { $0 != 0 }) }
        // A parameter: to the planner who knows that it is user 0, the most frequent one, an index by time looks
        // shorter.
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
