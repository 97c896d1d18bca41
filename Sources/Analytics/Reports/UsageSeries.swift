package import Domain
import Storage

/// Usage in each bucket of time, for each group.
package struct UsageSeries: Sendable, Hashable {
    /// A stretch of time; the first and last may be parts of a day or month.
    package struct Bucket: Sendable, Hashable {
        package let start: Timestamp
        package let end: Timestamp
    }

    /// The values of one group, one for each bucket.
    package struct Line: Sendable, Hashable {
        /// The group: a model, provider, status or plan; `nil` of the others, of what has none, and without grouping.
        package let key: String?
        /// Whether it is all groups together that have no line of their own.
        package let isOthers: Bool
        package let sums: [UsageTotals]
        /// Empty where they were not asked for.
        package let latencies: [UsageLatency]
    }

    package let range: ReportRange
    package let granularity: Granularity
    package let buckets: [Bucket]
    /// The largest group first, the others last. Without a group exactly one line, with one no line where there is no
    /// usage.
    package let lines: [Line]

    /// Reads the series of `scope`; where no granularity is asked for, the one that fits the range. The `limit` largest
    /// groups have a line of their own.
    ///
    /// - Throws: ``AppError`` `.invalid` where the range has too many buckets; `PostgresError`.
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, every granularity: Granularity? = nil, by group: UsageGroup? = nil,
        limit: Int = 10, rankedBy ranking: UsageRanking = .requests, hasLatency: Bool = false,
        on snapshot: ReportSnapshot
    ) throws -> UsageSeries {
        let granularity = granularity ?? .fitting(range)
        let boundaries = try granularity.boundaries(of: range, snapshot.connection)
        let query = UsageQuery(
            scope: scope, boundaries: boundaries, group: group, ranking: ranking, limit: limit, hasLatency: hasLatency)
        let rows = try query.rows(on: snapshot)
        let buckets = zip(boundaries, boundaries.dropFirst()).map {
            Bucket(start: QuarterHour.start(of: $0), end: QuarterHour.start(of: $1))
        }
        let count = buckets.count
        var lines = Dictionary(grouping: rows, by: \.rank).sorted { $0.key < $1.key }.map { rank, rows in
            Line(rank <= limit ? rows[0].key : nil, isOthers: rank > limit, rows, count, hasLatency: hasLatency)
        }
        if lines.isEmpty && group == nil { lines = [Line(nil, isOthers: false, [], count, hasLatency: hasLatency)] }
        return UsageSeries(range: range, granularity: granularity, buckets: buckets, lines: lines)
    }
}

extension UsageSeries.Line {
    /// The values of `rows` in `count` buckets; a bucket without a row has zeros.
    fileprivate init(_ key: String?, isOthers: Bool, _ rows: [UsageQuery.Row], _ count: Int, hasLatency: Bool) {
        var sums = [UsageTotals](repeating: UsageTotals(), count: count)
        var latencies = [UsageLatency](repeating: UsageLatency(), count: hasLatency ? count : 0)
        for row in rows {
            sums[row.bucket - 1] = row.sums
            if hasLatency { latencies[row.bucket - 1] = row.latency }
        }
        self.init(key: key, isOthers: isOthers, sums: sums, latencies: latencies)
    }
}
