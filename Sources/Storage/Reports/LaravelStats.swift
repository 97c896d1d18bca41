package import Domain

/// A user's calls of the present UTC day: `today` of Laravel's `dashboard/stats`.
package struct LaravelStats: Sendable, Hashable {
    package let apiCalls: Int64
    package let tokensUsed: Int64
    package let totalCost: Money
    /// Milliseconds, rounded to two decimals; 0 without calls.
    package let averageResponseTime: Double

    /// - Throws: ``PostgresError``.
    package init(of user: Int64, now: Timestamp, _ snapshot: UsageSnapshot) throws {
        let midnight = ReportRange.floor(now) / LaravelDays.quartersOfDay * LaravelDays.quartersOfDay
        let table = UsageTable(
            scope: .user(user), boundaries: [midnight, midnight + LaravelDays.quartersOfDay])
        let sums = try table.cells(snapshot).first?.sums ?? UsageSums()
        apiCalls = sums.requests
        tokensUsed = sums.tokens
        totalCost = sums.laravelCost
        averageResponseTime = ((sums.averageDuration ?? 0) * 100).rounded() / 100
    }
}
