import Postgres

/// Takes one event out of the rollups, which the transaction holds.
enum UsageWithdrawal {
    /// An event in the rollups.
    struct Event {
        /// Of `metering.events`, where its row still is.
        var key: String
        /// On the line of ids.
        var position: Int64
        var user: Int64
        var quarter: Int
        var isSelfReported: Bool

        var day: Int { quarter / UsageRange.quartersOfDay }
        /// The user's day on which it counts.
        var range: UsageRange { UsageRange(from: day, to: day + 1, user: user) }
    }

    /// A rollup does not hold what is to be taken from it, is saturated or is NaN.
    private struct Inexact: Error {}

    /// Subtracts the event from every rollup that has it; `false`, and nothing is changed, where that would not be
    /// exact: then the day is to be made again.
    ///
    /// - Throws: ``PostgresError``.
    static func subtract(_ event: Event, _ cursor: UsageCursor, _ connection: Connection) throws -> Bool {
        do {
            try connection.savepoint { connection in
                try subtract(event, from: "metering.usage_quarters", bucket: "quarter", connection)
                guard event.quarter < cursor.daysBefore else { return }
                try subtract(event, from: "metering.usage_days", bucket: "day", connection)
                if !event.isSelfReported { try subtractSpans(event, cursor, connection) }
            }
            return true
        } catch is Inexact {
            return false
        }
    }

    private static func subtract(
        _ event: Event, from table: Query, bucket: Query, _ connection: Connection
    ) throws {
        let isIts: Query = "u.user_id = c.user_id AND u.\(bucket) = c.\(bucket) AND u.dimension = c.dimension"
        let (expected, changed) = try connection.query(
            """
            WITH \(cells(of: event)), changed AS (
                UPDATE \(table) u SET \(UsageMeasures.subtracted)
                FROM cell c WHERE \(isIts) AND \(UsageMeasures.covers)
                RETURNING u.user_id
            )
            SELECT (SELECT count(*) FROM cell), (SELECT count(*) FROM changed)
            """)[0].decode(Int.self, Int.self)
        guard expected == changed else { throw Inexact() }
        // What has no request is no cell: `verify` expects none.
        try connection.execute(
            "WITH \(cells(of: event)) DELETE FROM \(table) u USING cell c WHERE \(isIts) AND u.requests = 0")
    }

    /// CTE `cell` of what the event is in the rollups of its user and of all users, by quarter and day.
    private static func cells(of event: Event) -> Query {
        """
        fact AS MATERIALIZED (
            SELECT f.user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension, f.is_self_reported,
                   \(UsageMeasures.ofFacts)
            FROM \(UsageKind.events.facts(after: event.position - 1, through: event.position)) f \(UsageDimensions.join)
            WHERE f.event_key = \(event.key)::uuid
            GROUP BY 1, 2, 3, 4
        ), cell AS MATERIALIZED (
            SELECT o.user_id, f.quarter, metering.day_of(f.quarter) AS day, f.dimension, \(UsageMeasures.columns)
            FROM fact f CROSS JOIN LATERAL (VALUES (f.user_id), (0)) AS o (user_id)
            WHERE o.user_id <> 0 OR NOT f.is_self_reported
        )
        """
    }

    private static func subtractSpans(_ event: Event, _ cursor: UsageCursor, _ connection: Connection) throws {
        let firstOpen = UsageSpans.firstOpenDay(cursor.daysBefore)
        let written = UsageSpans.lengths.filter { $0 == 1 || event.day / $0 * $0 + $0 <= firstOpen }
        let isIts: Query = """
            s.user_id = \(event.user)::bigint AND s.days = ANY(\(written)::integer[])
            AND s.first_day = \(UsageSpans.start("s.days", of: "('1970-01-01'::date + \(event.day)::integer)"))
            """
        let changed = try connection.execute(
            """
            WITH \(cells(of: event)), used AS (
                SELECT \(UsageSpans.ofCells) FROM cell c WHERE c.user_id <> 0
            )
            UPDATE metering.usage_spans s
            SET requests = s.requests - c.requests, tokens = s.tokens - c.tokens, cost = s.cost - c.cost
            FROM used c
            WHERE \(isIts) AND s.requests >= c.requests AND s.requests < 9223372036854775807
              AND s.tokens >= c.tokens AND s.tokens < 9223372036854775807
              AND metering.finite(s.cost) = s.cost
            """)
        guard changed == written.count else { throw Inexact() }
        try connection.execute("DELETE FROM metering.usage_spans s WHERE \(isIts) AND s.requests = 0")
    }
}
