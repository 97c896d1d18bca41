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
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, comparedWith previous: ReportRange? = nil,
        on snapshot: ReportSnapshot
    ) throws -> UsageSummary {
        guard let previous = previous ?? range.previous else {
            return UsageSummary(current: try Period.list(scope, [range], on: snapshot)[0], previous: nil)
        }
        let gap = range.quarterHours.lowerBound - previous.quarterHours.upperBound
        if (0...longestGap).contains(gap) {
            let periods = try Period.list(scope, [previous, range], on: snapshot)
            return UsageSummary(current: periods[1], previous: periods[0])
        }
        return UsageSummary(
            current: try Period.list(scope, [range], on: snapshot)[0],
            previous: try Period.list(scope, [previous], on: snapshot)[0])
    }

    /// The quarter hours between two periods that are read with them: they cost less than a second statement.
    private static let longestGap = 31 * QuarterHour.perDay
}

extension UsageSummary.Period {
    /// The usage of `ranges`, by one statement, which reads pending logs once. Each range begins where the one before
    /// it ends, or later.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(
        _ scope: UsageScope, _ ranges: [ReportRange], on snapshot: ReportSnapshot
    ) throws -> [UsageSummary.Period] {
        let boundaries = Set(ranges.flatMap { [$0.quarterHours.lowerBound, $0.quarterHours.upperBound] }).sorted()
        let rows = try UsageQuery(scope: scope, boundaries: boundaries, hasLatency: true).rows(on: snapshot)
        return ranges.map { range in
            let row = rows.first { boundaries[$0.bucket - 1] == range.quarterHours.lowerBound }
            return Self(range: range, sums: row?.sums ?? UsageTotals(), latency: row?.latency ?? UsageLatency())
        }
    }
}

/// For the operator: how many users there are, and what all users used today and in this month, UTC.
package struct UsageOverview: Sendable, Hashable {
    /// Users of one plan and status. The status of users that Laravel has soft-deleted is `deleted`.
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
    package static func read(now: Timestamp, on snapshot: ReportSnapshot) throws -> UsageOverview {
        let firstOfMonth = try QuarterHour.firstOfMonth(now, snapshot.connection)
        let midnight = QuarterHour.midnight(before: QuarterHour.holding(now))
        let boundaries = Set([firstOfMonth, midnight, midnight + QuarterHour.perDay]).sorted()
        let rows = try UsageQuery(scope: .allUsers, boundaries: boundaries).rows(on: snapshot)
        let users = try snapshot.connection.query(usersStatement).map { row in
            let (plan, status, count) = try row.decode(String.self, String.self, Int.self)
            return Users(plan: plan, status: status, count: count)
        }
        return UsageOverview(
            users: users, today: rows.first { $0.bucket == boundaries.count - 1 }?.sums ?? UsageTotals(),
            month: rows.reduce(UsageTotals()) { $0 + $1.sums })
    }

    /// The statement on users. Usage has that of ``UsageQuery``.
    static let usersStatement: Query = """
        SELECT \(UserColumn.plan),
               CASE WHEN u.id IN (SELECT metering.deleted_users()) THEN 'deleted' ELSE \(UserColumn.status) END,
               count(*)
        FROM public.users u
        GROUP BY 1, 2
        ORDER BY 1, 2
        """
}

/// How many logs there are, for a page's total. It is as fast for a million as for one.
///
/// Logs that are gone, by retention or with their user, are counted. So it may be more than a list can show.
package struct CallCount: Sendable, Hashable {
    package let calls: Int64

    /// - Throws: ``PostgresError``.
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, on snapshot: ReportSnapshot
    ) throws -> CallCount {
        let rows = try UsageQuery(scope: scope, boundaries: range.boundaries).rows(on: snapshot)
        return CallCount(calls: rows.first?.sums.requests ?? 0)
    }
}
