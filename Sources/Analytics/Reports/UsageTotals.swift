package import Domain
import Postgres
import Storage

/// What usage adds up to.
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

    /// `whole` without `part`, which is in it. No count of `whole` is saturated.
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
    /// Columns that ``init(_:from:)`` reads.
    static let columnCount = counts.count + 2

    /// Reads the totals of a statement's row: from the column `first` on, the counts and the two costs.
    init(_ row: Row, from first: Int) throws {
        for (index, count) in Self.counts.enumerated() {
            self[keyPath: count] = try row.decode(first + index)
        }
        pricedCost = try row.decode(first + Self.counts.count)
        laravelCost = try row.decode(first + Self.counts.count + 1)
    }

    /// The whole numbers in the order of a statement's columns.
    private static var counts: [WritableKeyPath<UsageTotals, Int64>] {
        [
            \.requests, \.unpriced, \.inputTokens, \.outputTokens, \.cachedTokens, \.reasoningTokens, \.duration,
            \.errors, \.rateLimited,
        ]
    }
}

/// How long requests took, in milliseconds. Each percentile is within 2 % of the one that `percentile_disc` finds. It
/// is `nil` where no sender stated a duration.
package struct UsageLatency: Sendable, Hashable {
    /// The percentiles of one duration.
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
    /// Reads the six percentiles from the column `first` on.
    init(_ row: Row, from first: Int) throws {
        duration = try Percentiles(row, from: first)
        firstToken = try Percentiles(row, from: first + 3)
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
