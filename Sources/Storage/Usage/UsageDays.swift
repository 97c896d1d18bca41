import Domain
import Postgres

/// Moves the border up to which `usage_days` and `usage_spans` are written (`migrations/0007_usage.sql`, `0014_usage_spans.sql`).
enum UsageDays {
    /// What a step did.
    enum Step: Sendable, Hashable {
        case moved
        /// The border is where it should be.
        case upToDate
        /// Another worker has the cursor.
        case busy
    }

    /// Quarters that the border moves at least, and that it stays behind the present: late rows cost two writes.
    private static let stride = 4
    private static let quartersOfDay = 96

    /// Sums the quarters of at most one UTC day into it.
    ///
    /// - Throws: ``PostgresError``.
    static func advance(_ connection: Connection, now: Timestamp) throws -> Step {
        guard let cursor = try UsageCursor.take(connection) else { return .busy }
        let target = Int((now.microseconds / 900_000_000 - Int64(stride)) / Int64(stride)) * stride
        guard target >= cursor.daysBefore + stride else { return .upToDate }
        guard let start = try firstQuarter(from: cursor.daysBefore, connection), start < target else {
            try move(from: cursor.daysBefore, to: target, connection)
            return .upToDate
        }
        let end = min(target, (start / quartersOfDay + 1) * quartersOfDay)
        try connection.executeScript("SET LOCAL work_mem = '64MB'")
        try connection.execute(
            """
            WITH cell AS MATERIALIZED (
                SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, \(UsageMeasures.ofCells)
                FROM metering.usage_quarters c
                WHERE c.quarter >= \(start) AND c.quarter < \(end)
                GROUP BY 1, 2, 3
            ), spans AS (
                INSERT INTO metering.usage_spans AS s (days, first_day, user_id, \(UsageSpans.columns))
                SELECT 1, c.day, c.user_id, \(UsageSpans.ofCells)
                FROM cell c WHERE c.user_id <> 0 AND \(UsageDimensions.countsForAll("c.dimension"))
                GROUP BY 2, 3
                ORDER BY 2, 3
                ON CONFLICT (days, first_day, user_id) DO UPDATE SET \(UsageSpans.added)
            )
            INSERT INTO metering.usage_days AS u (user_id, day, dimension, \(UsageMeasures.columns))
            SELECT c.user_id, c.day, c.dimension, \(UsageMeasures.kept)
            FROM cell c
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, day, dimension) DO UPDATE SET \(UsageMeasures.added)
            """)
        try move(from: cursor.daysBefore, to: end, connection)
        return .moved
    }

    private static func move(from old: Int, to new: Int, _ connection: Connection) throws {
        try UsageSpans.finish(from: old, to: new, connection)
        try UsageCursor.move("days_before", to: Int64(new), connection)
    }

    /// The first quarter with usage from `border` on; of any user, as everybody's row lacks what is self-reported.
    private static func firstQuarter(from border: Int, _ connection: Connection) throws -> Int? {
        try connection.query(
            "SELECT min(quarter) FROM metering.usage_quarters WHERE quarter >= \(border)"
        )[0].decode(0, as: Int?.self)
    }
}
