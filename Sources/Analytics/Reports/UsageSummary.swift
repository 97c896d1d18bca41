package import Domain
import Postgres
import Storage

/// How much was used in a range, how fast, and how much in the range before.
package struct UsageSummary: Sendable, Hashable {
    /// One of the two ranges.
    package struct Period: Sendable, Hashable {
        package let range: ReportRange
        package let sums: UsageTotals
        package let latency: UsageLatency
    }

    package let current: Period
    /// What it is compared with; `nil` where that lies before 1970.
    package let previous: Period?

    /// Reads both periods in one state of the database; the second is the range of the same length before the first,
    /// unless `previous` says otherwise.
    ///
    /// - Throws: ``PostgresError``.
    package init(
        _ scope: UsageScope, _ range: ReportRange, comparedWith previous: ReportRange? = nil, _ snapshot: ReportSnapshot
    ) throws {
        let previous = previous ?? range.previous
        if let previous, previous.quarters.upperBound == range.quarters.lowerBound {
            // Side by side: one statement, and pending logs are read once.
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
    fileprivate static func list(_ scope: UsageScope, _ ranges: [ReportRange], _ snapshot: ReportSnapshot) throws
        -> [Self]
    {
        let boundaries = [ranges[0].quarters.lowerBound] + ranges.map(\.quarters.upperBound)
        let cells = try UsageQuery(scope: scope, boundaries: boundaries, hasLatency: true).cells(snapshot)
        return ranges.enumerated().map { index, range in
            let cell = cells.first { $0.bucket == index + 1 }
            return Self(range: range, sums: cell?.sums ?? UsageTotals(), latency: cell?.latency ?? UsageLatency())
        }
    }
}

/// The operator's first look: who is there, and what all users used today and in this month, UTC.
package struct UsageOverview: Sendable, Hashable {
    /// Users of one plan and status, which is `deleted` for those whom Laravel has soft-deleted.
    package struct Users: Sendable, Hashable {
        package let plan: String
        package let status: String
        package let count: Int
    }

    /// By plan and status.
    package let users: [Users]
    package let today: UsageTotals
    /// From the first of the month on.
    package let month: UsageTotals

    /// - Throws: ``PostgresError``.
    package init(now: Timestamp, _ snapshot: ReportSnapshot) throws {
        let (firstOfMonth, midnight) = try snapshot.connection.query(
            """
            SELECT metering.quarter_of(date_trunc('month', u.now) AT TIME ZONE 'UTC'),
                   metering.quarter_of(date_trunc('day', u.now) AT TIME ZONE 'UTC')
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS now) u
            """)[0].decode(Int.self, Int.self)
        let boundaries = Set([firstOfMonth, midnight, midnight + LaravelDays.quartersOfDay]).sorted()
        let cells = try UsageQuery(scope: .allUsers, boundaries: boundaries).cells(snapshot)
        today = cells.first { $0.bucket == boundaries.count - 1 }?.sums ?? UsageTotals()
        month = cells.reduce(UsageTotals()) { $0 + $1.sums }
        users = try snapshot.connection.query(
            """
            SELECT \(UserColumn.plan), CASE WHEN u.id IN (SELECT metering.deleted_users()) THEN 'deleted'
                        ELSE \(UserColumn.status) END, count(*)
            FROM public.users u GROUP BY 1, 2 ORDER BY 1, 2
            """
        ).map { row in
            let (plan, status, count) = try row.decode(String.self, String.self, Int.self)
            return Users(plan: plan, status: status, count: count)
        }
    }
}

/// How many calls there are, for a page's total: as fast for a million as for one.
///
/// Calls whose raw rows are gone, by retention or with their user, are counted: it may be more than a list can show.
package struct CallCount: Sendable, Hashable {
    package let calls: Int64

    /// - Throws: ``PostgresError``.
    package init(_ scope: UsageScope, _ range: ReportRange, _ snapshot: ReportSnapshot) throws {
        let table = UsageQuery(scope: scope, boundaries: range.boundaries)
        calls = try table.cells(snapshot).first?.sums.requests ?? 0
    }
}
