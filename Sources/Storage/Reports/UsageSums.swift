package import Domain
import Postgres

/// What a stretch of usage adds up to.
package struct UsageSums: Sendable, Hashable {
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

    package static func + (left: UsageSums, right: UsageSums) -> UsageSums {
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
    package static func - (whole: UsageSums, part: UsageSums) -> UsageSums {
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

extension UsageSums {
    /// Aggregates over the cells `c` of a report, in the order of ``init(_:from:)``.
    static let aggregates: Query = {
        let counts = UsageMeasures.counts.map { "\(saturated("sum(c.sign * c.\($0))")) AS \($0)" }
        let amounts = UsageMeasures.amounts.map { "sum(c.sign * c.\($0)) AS \($0)" }
        let statuses = [("errors", EventStatus.error), ("rate_limited", .rateLimited)].map { name, status in
            """
            \(saturated("coalesce(sum(c.sign * c.requests) FILTER (WHERE c.status = '\(status.rawValue)'), 0)")) AS \(name)
            """
        }
        return Query(unsafeSQL: (counts + statuses + amounts).joined(separator: ", "))
    }()

    /// Aggregates over rows `t` of aggregates.
    static let total: Query = {
        let counts = (UsageMeasures.counts + ["errors", "rate_limited"]).map { saturated("sum(t.\($0))") }
        return Query(
            unsafeSQL: (counts + UsageMeasures.amounts.map { "trim_scale(sum(t.\($0)))" }).joined(separator: ", "))
    }()

    /// Columns that ``total`` makes.
    static let columnCount = counts.count + UsageMeasures.amounts.count

    /// Reads what ``total`` made, from the column `first` on.
    init(_ row: Row, from first: Int) throws {
        for (index, count) in Self.counts.enumerated() {
            self[keyPath: count] = try row.decode(first + index)
        }
        pricedCost = try row.decode(first + Self.counts.count)
        laravelCost = try row.decode(first + Self.counts.count + 1)
    }

    /// The whole numbers, as ``total`` orders them: those of ``UsageMeasures/counts``, then those by status.
    private static var counts: [WritableKeyPath<UsageSums, Int64>] {
        [
            \.requests, \.unpriced, \.inputTokens, \.outputTokens, \.cachedTokens, \.reasoningTokens, \.duration,
            \.errors, \.rateLimited,
        ]
    }

    private static func saturated(_ sum: String) -> String { UsageMeasures.saturated(sum) }
}
