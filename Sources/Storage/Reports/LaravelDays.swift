import Domain
import Postgres

/// A user's last 30 days as Laravel counts them: from this second 30 days ago on, by UTC day, rows of the future included.
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

    /// CTE `used` of (quarter, day, model, requests, tokens, cost): what is between `boundaries`, at its bucket's first quarter,
    /// and from ``since`` on the rows before ``firstQuarter``, at quarter NULL.
    func query(_ boundaries: [Int], _ snapshot: UsageSnapshot) -> Query {
        let cells = UsageCells(.user(user), boundaries, by: .model, snapshot)
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
