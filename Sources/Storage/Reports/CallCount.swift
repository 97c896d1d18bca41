/// How many calls there are, for a page's total: as fast for a million as for one.
///
/// Calls whose raw rows are gone, by retention or with their user, are counted: it may be more than a list can show.
package struct CallCount: Sendable, Hashable {
    package let calls: Int64

    /// - Throws: ``PostgresError``.
    package init(_ scope: UsageScope, _ range: ReportRange, _ snapshot: UsageSnapshot) throws {
        let table = UsageTable(scope: scope, boundaries: range.boundaries)
        calls = try table.cells(snapshot).first?.sums.requests ?? 0
    }
}
