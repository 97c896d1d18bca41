package import Domain
import Postgres

/// The operator's first look: who is there, and what everybody used today and in this month, UTC.
package struct UsageOverview: Sendable, Hashable {
    /// Users of one plan and status, which is `deleted` for those whom Laravel has soft-deleted.
    package struct Users: Sendable, Hashable {
        package let plan: String
        package let status: String
        package let count: Int
    }

    /// By plan and status.
    package let users: [Users]
    package let today: UsageSums
    /// From the first of the month on.
    package let month: UsageSums

    /// - Throws: ``PostgresError``.
    package init(now: Timestamp, _ snapshot: UsageSnapshot) throws {
        let (firstOfMonth, midnight) = try snapshot.connection.query(
            """
            SELECT metering.quarter_of(date_trunc('month', u.now) AT TIME ZONE 'UTC'),
                   metering.quarter_of(date_trunc('day', u.now) AT TIME ZONE 'UTC')
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS now) u
            """)[0].decode(Int.self, Int.self)
        let boundaries = Set([firstOfMonth, midnight, midnight + LaravelDays.quartersOfDay]).sorted()
        let cells = try UsageTable(scope: .everybody, boundaries: boundaries).cells(snapshot)
        today = cells.first { $0.bucket == boundaries.count - 1 }?.sums ?? UsageSums()
        month = cells.reduce(UsageSums()) { $0 + $1.sums }
        users = try snapshot.connection.query(
            """
            SELECT u.plan, CASE WHEN u.id IN (SELECT metering.deleted_users()) THEN 'deleted' ELSE u.status END, count(*)
            FROM public.users u GROUP BY 1, 2 ORDER BY 1, 2
            """
        ).map { row in
            let (plan, status, count) = try row.decode(String.self, String.self, Int.self)
            return Users(plan: plan, status: status, count: count)
        }
    }
}
