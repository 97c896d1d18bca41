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
    package static func read(of user: Int64, now: Timestamp, on snapshot: ReportSnapshot) throws -> LaravelStats {
        let midnight = QuarterHour.midnight(before: QuarterHour.holding(now))
        let query = UsageQuery(scope: .user(user), boundaries: [midnight, midnight + QuarterHour.perDay])
        let sums = try query.rows(on: snapshot).first?.sums ?? UsageTotals()
        return LaravelStats(
            apiCalls: sums.requests, tokensUsed: sums.tokens, totalCost: sums.laravelCost,
            averageResponseTime: ((sums.averageDuration ?? 0) * 100).rounded() / 100)
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
    package static func read(of user: Int64, now: Timestamp, on snapshot: ReportSnapshot) throws -> LaravelChart {
        let rows = try snapshot.connection.query(statement(LaravelDays(of: user, now: now), snapshot.state))
        let groups = try rows.map { try $0.decode(Bool.self, String?.self, String?.self, Int64.self, Int64.self) }
        let days = groups.compactMap { isDay, label, _, tokens, _ in
            isDay ? label.map { Day(label: $0, tokens: tokens) } : nil
        }
        let models = groups.compactMap { _, _, name, _, calls in name.map { Model(name: $0, calls: calls) } }
        return LaravelChart(days: days, models: models)
    }

    /// Rows of (is a day, label of the day, model, tokens, requests).
    static func statement(_ window: LaravelDays, _ state: ReportState) -> Query {
        """
        WITH \(window.used(window.boundaries, state))
        SELECT u.model IS NULL, to_char(u.day, 'Mon DD'), u.model, \(saturated: "sum(u.tokens)"),
               sum(u.requests)::bigint
        FROM used u
        WHERE u.quarter IS NULL OR u.quarter >= \(window.firstQuarter)::integer
        GROUP BY GROUPING SETS ((u.day), (u.model))
        HAVING sum(u.requests) > 0
        ORDER BY u.day, 5 DESC, u.model
        """
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
    package static func read(
        of user: Int64, now: Timestamp, on snapshot: ReportSnapshot
    ) throws -> LaravelAnalytics {
        let window = LaravelDays(of: user, now: now)
        let firstOfMonth = try QuarterHour.firstOfMonth(now, snapshot.connection)
        let rows = try snapshot.connection.query(
            statement(window, firstOfMonth: firstOfMonth, snapshot.state))
        let lists = Dictionary(
            grouping: try rows.map { try $0.decode(String.self, String.self, Int64.self, Int64.self, Money.self) },
            by: \.0)
        return LaravelAnalytics(
            costTrend: (lists["day"] ?? []).map { Day(label: $0.1, cost: $0.4) },
            topModels: (lists["model"] ?? []).map { LaravelChart.Model(name: $0.1, calls: $0.2) },
            month: lists["month"]?.first.map { Month(apiCalls: $0.2, tokensUsed: $0.3, totalCost: $0.4) }
                ?? Month(apiCalls: 0, tokensUsed: 0, totalCost: .zero))
    }

    /// Rows of (list, label, requests, tokens, cost); the lists are `day`, `model` and `month`.
    static func statement(_ window: LaravelDays, firstOfMonth: Int, _ state: ReportState) -> Query {
        """
        WITH \(window.used(Set(window.boundaries).union([0, firstOfMonth]).sorted(), state)), answer AS (
            SELECT 'day' AS list, row_number() OVER (ORDER BY u.day) AS position, to_char(u.day, 'Mon DD') AS label,
                   sum(u.requests)::bigint AS requests, \(saturated: "sum(u.tokens)") AS tokens,
                   trim_scale(sum(u.cost)) AS cost
            FROM used u
            WHERE u.quarter IS NULL OR u.quarter >= \(window.firstQuarter)::integer
            GROUP BY u.day
            UNION ALL
            SELECT 'model', row_number() OVER (ORDER BY sum(u.requests) DESC, u.model), u.model,
                   sum(u.requests)::bigint, \(saturated: "sum(u.tokens)"), trim_scale(sum(u.cost))
            FROM used u
            WHERE u.quarter IS NOT NULL
            GROUP BY u.model
            UNION ALL
            SELECT 'month', 1, '', sum(u.requests)::bigint, \(saturated: "sum(u.tokens)"), trim_scale(sum(u.cost))
            FROM used u
            WHERE u.quarter >= \(firstOfMonth)::integer
        )
        SELECT a.list, a.label, a.requests, a.tokens, a.cost
        FROM answer a
        WHERE a.requests > 0 AND (a.list <> 'model' OR a.position <= \(topModelCount))
        ORDER BY a.list, a.position
        """
    }
}

/// A user's last 30 days as Laravel counts them: from this second 30 days ago on, by UTC day, rows of the future
/// included.
///
/// The window begins within a quarter hour. The logs of that quarter hour's rest are read from `api_logs` itself.
struct LaravelDays {
    private static let length = Duration.seconds(30 * 86_400)
    /// The end of all quarter hours.
    private static let end = ReportRange.allTime.quarterHours.upperBound

    let user: Int64
    /// Where the window begins, in whole seconds.
    let since: Timestamp
    /// The window's first whole quarter hour.
    let firstQuarter: Int
    /// From there on: the days, the last of which, tomorrow, holds all the future.
    let boundaries: [Int]

    init(of user: Int64, now: Timestamp) {
        self.user = user
        since = Timestamp(microseconds: now.advanced(by: .zero - Self.length).microseconds / 1_000_000 * 1_000_000)
        firstQuarter = QuarterHour.first(from: since)
        let nextMidnight = QuarterHour.midnight(before: firstQuarter) + QuarterHour.perDay
        let tomorrow = QuarterHour.holding(now) + QuarterHour.perDay
        boundaries =
            [firstQuarter] + stride(from: nextMidnight, through: tomorrow, by: QuarterHour.perDay) + [Self.end]
    }

    /// CTE `used` of (quarter, day, model, requests, tokens, cost): the usage between `boundaries`, each bucket at its
    /// first quarter hour, and the logs from ``since`` to before ``firstQuarter``, at quarter NULL.
    func used(_ boundaries: [Int], _ state: ReportState) -> Query {
        let cover = RollupCover(boundaries, dayBoundary: state.rollups.dayBoundary)
        return """
            \(ReportFragments.usage(of: .user(user), in: cover, by: .model, state)), used AS (
                SELECT b.quarter, metering.day_of(b.quarter) AS day, c.model, c.requests, c.tokens, c.cost
                FROM (
                    SELECT u.bucket, u.key AS model, sum(u.sign * u.requests) AS requests,
                           sum(u.sign * (u.input_tokens::numeric + u.output_tokens)) AS tokens,
                           sum(u.sign * u.ledger_cost) AS cost
                    FROM usage u
                    GROUP BY 1, 2
                ) c JOIN unnest(\(boundaries)::integer[]) WITH ORDINALITY AS b (quarter, bucket) USING (bucket)
                UNION ALL
                SELECT NULL, l.created_at::date, coalesce(l.model, 'unknown'), 1,
                       \(LogRow.whole("l.input_tokens"))::numeric + \(LogRow.whole("l.output_tokens")),
                       coalesce(\(LogRow.price), 0)
                FROM public.api_logs l
                WHERE l.user_id = \(user) AND l.created_at >= \(since) AT TIME ZONE 'UTC'
                  AND l.created_at < \(QuarterHour.start(of: firstQuarter)) AT TIME ZONE 'UTC'
            )
            """
    }
}

/// A user's last logs, as Laravel's first page shows them.
package enum RecentCalls {
    /// The last `limit` logs of `user` in Laravel's order: logs without a time first, then the latest first.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(of user: Int64, limit: Int = 50, on connection: Connection) throws -> [LogRow] {
        try connection.query(statement(of: user, limit: limit)).map(LogRow.init)
    }

    static func statement(of user: Int64, limit: Int) -> Query {
        """
        SELECT \(LogRow.columns)
        FROM public.api_logs l
        WHERE l.user_id = \(user)
        ORDER BY l.created_at DESC, l.id
        LIMIT \(limit)
        """
    }
}
