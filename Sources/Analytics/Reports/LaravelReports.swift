package import Domain
package import Postgres
package import Storage

/// A user's calls of the present UTC day: `today` of Laravel's `dashboard/stats`.
package struct LaravelStats: Sendable, Hashable {
    package let apiCalls: Int64
    package let tokensUsed: Int64
    package let totalCost: Money
    /// Milliseconds, rounded to two decimals; 0 without calls.
    package let averageResponseTime: Double

    /// - Throws: ``PostgresError``.
    package init(of user: Int64, now: Timestamp, _ snapshot: ReportSnapshot) throws {
        let midnight = ReportRange.floor(now) / LaravelDays.quartersOfDay * LaravelDays.quartersOfDay
        let table = UsageQuery(
            scope: .user(user), boundaries: [midnight, midnight + LaravelDays.quartersOfDay])
        let sums = try table.cells(snapshot).first?.sums ?? UsageTotals()
        apiCalls = sums.requests
        tokensUsed = sums.tokens
        totalCost = sums.laravelCost
        averageResponseTime = ((sums.averageDuration ?? 0) * 100).rounded() / 100
    }
}

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
    package init(of user: Int64, now: Timestamp, _ snapshot: ReportSnapshot) throws {
        let window = LaravelDays(of: user, now: now)
        let rows = try snapshot.connection.query(
            """
            WITH \(window.query(window.boundaries, snapshot))
            SELECT u.model IS NULL, to_char(u.day, 'Mon DD'), u.model,
                   \(unsafeSQL: Query.saturated("sum(u.tokens)")), sum(u.requests)::bigint
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

/// What a user's last 30 days cost by day, the models used most ever, and the present month: Laravel's
/// `usage/analytics`.
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
    package init(of user: Int64, now: Timestamp, _ snapshot: ReportSnapshot) throws {
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
        sum(u.requests)::bigint AS requests, \(unsafeSQL: Query.saturated("sum(u.tokens)")) AS tokens,
        trim_scale(sum(u.cost)) AS cost
        """
}

/// A user's last 30 days as Laravel counts them: from this second 30 days ago on, by UTC day, rows of the future
/// included.
///
/// The window begins within a quarter of an hour; what of it is in the window is read from `api_logs` itself.
struct LaravelDays {
    static let quartersOfDay = 96
    private static let length = Duration.seconds(30 * 86_400)
    /// The last quarter of all.
    private static let end = ReportRange.allTime.quarters.upperBound

    let user: Int64
    /// Where the window begins, in whole seconds.
    let since: Timestamp
    /// The window's first whole quarter.
    let firstQuarter: Int
    /// From there on: the days, the last of which, tomorrow, holds all the future.
    let boundaries: [Int]

    init(of user: Int64, now: Timestamp) {
        self.user = user
        since = Timestamp(microseconds: now.advanced(by: .zero - Self.length).microseconds / 1_000_000 * 1_000_000)
        firstQuarter = ReportRange.ceiling(since)
        let midnight = (firstQuarter / Self.quartersOfDay + 1) * Self.quartersOfDay
        boundaries =
            [firstQuarter]
            + stride(
                from: midnight, through: ReportRange.floor(now) + Self.quartersOfDay, by: Self.quartersOfDay) + [
                Self.end
            ]
    }

    /// CTE `used` of (quarter, day, model, requests, tokens, cost): what is between `boundaries`, at its bucket's first
    /// quarter, and from ``since`` on the rows before ``firstQuarter``, at quarter NULL.
    func query(_ boundaries: [Int], _ snapshot: ReportSnapshot) -> Query {
        let cells = RollupCells(.user(user), boundaries, by: .model, snapshot)
        return """
            \(cells.query), used AS (
                SELECT b.quarter, metering.day_of(b.quarter) AS day, c.model, c.requests, c.tokens, c.cost
                FROM (
                    SELECT c.bucket, c.key AS model, sum(c.sign * c.requests) AS requests,
                           sum(c.sign * (c.input_tokens::numeric + c.output_tokens)) AS tokens,
                           sum(c.sign * c.ledger_cost) AS cost
                    FROM cell c GROUP BY 1, 2
                ) c JOIN unnest(\(boundaries)::integer[]) WITH ORDINALITY AS b (quarter, bucket) USING (bucket)
                UNION ALL
                SELECT NULL, l.created_at::date, coalesce(l.model, 'unknown'), 1,
                       \(LogRow.whole("l.input_tokens"))::numeric + \(LogRow.whole("l.output_tokens")),
                       coalesce(\(LogRow.price), 0)
                FROM public.api_logs l
                WHERE l.user_id = \(user) AND l.created_at >= \(since) AT TIME ZONE 'UTC'
                  AND l.created_at < \(ReportRange.start(of: firstQuarter)) AT TIME ZONE 'UTC'
            )
            """
    }

    /// Whether a row of `used` is in the window.
    var contains: Query { "(u.quarter IS NULL OR u.quarter >= \(firstQuarter)::integer)" }
}

/// A user's last calls, as Laravel's first page shows them.
package enum RecentCalls {
    /// The last `limit` calls of `user`, by Laravel's order: rows without a time first, then the latest first.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(of user: Int64, limit: Int = 50, _ connection: Connection) throws -> [LogRow] {
        try connection.query(
            """
            SELECT \(LogRow.columns) FROM public.api_logs l WHERE l.user_id = \(user)
            ORDER BY l.created_at DESC, l.id LIMIT \(limit)
            """
        ).map(LogRow.init)
    }
}
