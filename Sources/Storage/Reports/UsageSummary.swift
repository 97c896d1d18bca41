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
    /// - Throws: `PostgresError`.
    package init(
        _ scope: UsageScope, _ range: ReportRange, comparedWith previous: ReportRange? = nil, _ snapshot: UsageSnapshot
    ) throws {
        current = try Period(scope, range, snapshot)
        self.previous = try (previous ?? range.previous).map { try Period(scope, $0, snapshot) }
    }
}

extension UsageSummary.Period {
    fileprivate init(_ scope: UsageScope, _ range: ReportRange, _ snapshot: UsageSnapshot) throws {
        let table = UsageTable(
            scope: scope, boundaries: [range.quarters.lowerBound, range.quarters.upperBound], hasLatency: true)
        let cell = try table.cells(snapshot).first
        self.init(range: range, sums: cell?.sums ?? UsageSums(), latency: cell?.latency ?? UsageLatency())
    }
}
