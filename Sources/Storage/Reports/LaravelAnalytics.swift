package import Domain
import Postgres

/// What a user's last 30 days cost by day, the models used most ever, and the present month: Laravel's `usage/analytics`.
package struct LaravelAnalytics: Sendable, Hashable {
    /// A UTC day with calls.
    package struct Day: Sendable, Hashable {
        /// Such as `Oct 24`.
        package let label: String
        package let cost: Money
    }

    package struct Month: Sendable, Hashable {
        package let apiCalls: Int64
        package let tokensUsed: Int64
        package let totalCost: Money
    }

    /// In order.
    package let costTrend: [Day]
    /// Of all time; equal ones, which Laravel leaves in any order, by name.
    package let topModels: [LaravelChart.Model]
    /// From the first of the month on, UTC.
    package let month: Month

    private static let topModelCount = 10

    /// - Throws: ``PostgresError``.
    package init(of user: Int64, now: Timestamp, _ snapshot: UsageSnapshot) throws {
        let window = LaravelDays(of: user, now: now)
        let firstOfMonth = try snapshot.connection.query(
            "SELECT metering.quarter_of(date_trunc('month', \(now) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"
        )[0].decode(0, as: Int.self)
        let boundaries = Set(window.boundaries).union([0, firstOfMonth]).sorted()
        let rows = try snapshot.connection.query(
            """
            WITH \(window.query(boundaries, snapshot)), answer AS (
                SELECT 'day' AS part, row_number() OVER (ORDER BY u.day) AS place, to_char(u.day, 'Mon DD') AS label,
                       \(Self.measures)
                FROM used u WHERE \(window.contains) GROUP BY u.day
                UNION ALL
                SELECT 'model', row_number() OVER (ORDER BY sum(u.requests) DESC, u.model), u.model, \(Self.measures)
                FROM used u WHERE u.quarter IS NOT NULL GROUP BY u.model
                UNION ALL
                SELECT 'month', 1, '', \(Self.measures) FROM used u WHERE u.quarter >= \(firstOfMonth)::integer
            )
            SELECT a.part, a.label, a.requests, a.tokens, a.cost
            FROM answer a
            WHERE a.requests > 0 AND (a.part <> 'model' OR a.place <= \(Self.topModelCount))
            ORDER BY a.part, a.place
            """)
        let parts = Dictionary(
            grouping: try rows.map { try $0.decode(String.self, String.self, Int64.self, Int64.self, Money.self) },
            by: \.0)
        costTrend = (parts["day"] ?? []).map { Day(label: $0.1, cost: $0.4) }
        topModels = (parts["model"] ?? []).map { LaravelChart.Model(name: $0.1, calls: $0.2) }
        month =
            parts["month"]?.first.map { Month(apiCalls: $0.2, tokensUsed: $0.3, totalCost: $0.4) }
            ?? Month(apiCalls: 0, tokensUsed: 0, totalCost: .zero)
    }

    private static let measures: Query = """
        sum(u.requests)::bigint AS requests, \(unsafeSQL: UsageMeasures.saturated("sum(u.tokens)")) AS tokens,
        trim_scale(sum(u.cost)) AS cost
        """
}
