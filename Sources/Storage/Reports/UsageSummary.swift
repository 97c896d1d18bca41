/// How much was used in a range, how fast, and how much in the range before.
package struct UsageSummary: Sendable, Hashable {
    /// One of the two ranges.
    package struct Period: Sendable, Hashable {
        package let range: ReportRange
        package let sums: UsageSums
        package let latency: UsageLatency
    }

    package let current: Period
    /// What it is compared with; `nil` where that lies before 1970.
    package let previous: Period?

    /// Reads both periods in one state of the database; the second is the range of the same length before the first, unless
    /// `previous` says otherwise.
    ///
    /// - Throws: ``PostgresError``.
    package init(
        _ scope: UsageScope, _ range: ReportRange, comparedWith previous: ReportRange? = nil, _ snapshot: UsageSnapshot
    ) throws {
        let previous = previous ?? range.previous
        if let previous, previous.quarters.upperBound == range.quarters.lowerBound {
            // Side by side: one statement, and the rows behind the cursor are read once.
            let periods = try Period.list(scope, [previous, range], snapshot)
            (current, self.previous) = (periods[1], periods[0])
        } else {
            current = try Period.list(scope, [range], snapshot)[0]
            self.previous = try previous.map { try Period.list(scope, [$0], snapshot)[0] }
        }
    }
}

extension UsageSummary.Period {
    /// The usage of `ranges`, each of which begins where the one before it ends.
    fileprivate static func list(_ scope: UsageScope, _ ranges: [ReportRange], _ snapshot: UsageSnapshot) throws
        -> [Self]
    {
        let boundaries = [ranges[0].quarters.lowerBound] + ranges.map(\.quarters.upperBound)
        let cells = try UsageTable(scope: scope, boundaries: boundaries, hasLatency: true).cells(snapshot)
        return ranges.enumerated().map { index, range in
            let cell = cells.first { $0.bucket == index + 1 }
            return Self(range: range, sums: cell?.sums ?? UsageSums(), latency: cell?.latency ?? UsageLatency())
        }
    }
}
