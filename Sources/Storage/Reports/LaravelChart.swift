package import Domain
import Postgres

/// A user's last 30 days by day and by model: `chart` and `model_distribution` of Laravel's `dashboard/usage`.
package struct LaravelChart: Sendable, Hashable {
    /// A UTC day with calls.
    package struct Day: Sendable, Hashable {
        /// Such as `Oct 24`.
        package let label: String
        package let tokens: Int64
    }

    package struct Model: Sendable, Hashable {
        package let name: String
        package let calls: Int64
    }

    /// In order.
    package let days: [Day]
    /// The most used first; equal ones, which Laravel leaves in any order, by name.
    package let models: [Model]

    /// - Throws: ``PostgresError``.
    package init(of user: Int64, now: Timestamp, _ snapshot: UsageSnapshot) throws {
        let window = LaravelDays(of: user, now: now)
        let rows = try snapshot.connection.query(
            """
            WITH \(window.query(window.boundaries, snapshot))
            SELECT u.model IS NULL, to_char(u.day, 'Mon DD'), u.model,
                   \(unsafeSQL: UsageMeasures.saturated("sum(u.tokens)")), sum(u.requests)::bigint
            FROM used u WHERE \(window.contains)
            GROUP BY GROUPING SETS ((u.day), (u.model))
            HAVING sum(u.requests) > 0
            ORDER BY u.day, 5 DESC, u.model
            """)
        let groups = try rows.map { try $0.decode(Bool.self, String?.self, String?.self, Int64.self, Int64.self) }
        days = groups.compactMap { isDay, label, _, tokens, _ in
            isDay ? label.map { Day(label: $0, tokens: tokens) } : nil
        }
        models = groups.compactMap { _, _, name, _, calls in name.map { Model(name: $0, calls: calls) } }
    }
}
