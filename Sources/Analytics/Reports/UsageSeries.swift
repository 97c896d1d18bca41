package import Domain
import Storage

/// How usage went, bucket by bucket, for each group.
package struct UsageSeries: Sendable, Hashable {
    /// A stretch of time; the first and last may be parts of a day or month.
    package struct Bucket: Sendable, Hashable {
        package let start: Timestamp
        package let end: Timestamp
    }

    /// The values of one group, one for each bucket.
    package struct Line: Sendable, Hashable {
        /// Its model, provider, status or plan; `nil` of the others, of what has none, and where nothing is reported
        /// apart.
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
    package init(
        _ scope: UsageScope, _ range: ReportRange, every granularity: Granularity? = nil, by group: UsageGroup? = nil,
        limit: Int = 10, rankedBy ranking: UsageRanking = .requests, hasLatency: Bool = false,
        _ snapshot: ReportSnapshot
    ) throws {
        let granularity = granularity ?? .fitting(range)
        let boundaries = try granularity.boundaries(of: range, snapshot.connection)
        let table = UsageQuery(
            scope: scope, boundaries: boundaries, group: group, ranking: ranking, limit: limit, hasLatency: hasLatency)
        let cells = try table.cells(snapshot)
        self.range = range
        self.granularity = granularity
        buckets = zip(boundaries, boundaries.dropFirst()).map {
            Bucket(start: ReportRange.start(of: $0), end: ReportRange.start(of: $1))
        }
        let count = buckets.count
        let lines = Dictionary(grouping: cells, by: \.rank).sorted { $0.key < $1.key }.map { rank, cells in
            Line(rank <= limit ? cells[0].key : nil, isOthers: rank > limit, cells, count, hasLatency: hasLatency)
        }
        self.lines =
            lines.isEmpty && group == nil ? [Line(nil, isOthers: false, [], count, hasLatency: hasLatency)] : lines
    }
}

extension UsageSeries.Line {
    /// `cells` among `count` buckets, those without usage filled with zero.
    fileprivate init(_ key: String?, isOthers: Bool, _ cells: [UsageQuery.Cell], _ count: Int, hasLatency: Bool) {
        var sums = [UsageTotals](repeating: UsageTotals(), count: count)
        var latencies = [UsageLatency](repeating: UsageLatency(), count: hasLatency ? count : 0)
        for cell in cells {
            sums[cell.bucket - 1] = cell.sums
            if hasLatency { latencies[cell.bucket - 1] = cell.latency }
        }
        self.init(key: key, isOthers: isOthers, sums: sums, latencies: latencies)
    }
}
