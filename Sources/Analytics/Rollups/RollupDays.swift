import Domain
import Postgres
import Storage

/// Moves the day boundary, up to which `rollup_day` and `rollup_span` are written (`migrations/0007_usage.sql`,
/// `0014_usage_spans.sql`).
enum RollupDays {
    /// What a step did.
    enum Step: Sendable, Hashable {
        case moved
        /// The day boundary is where it should be.
        case upToDate
        /// Another worker has the state.
        case busy
        /// Nothing was done: ``RollupSpans/rebuildIfStale(_:)`` comes first.
        case staleSpans
    }

    /// Quarter hours that the day boundary moves at least, and by which it lags the present. A log that comes after it
    /// costs two writes.
    private static let stride = QuarterHour.perHour

    /// Adds the 15-minute rollups of at most one UTC day to the day's rollups.
    ///
    /// - Throws: ``PostgresError``.
    static func advance(_ connection: Connection, now: Timestamp) throws -> Step {
        guard let state = try RollupState.take(connection) else { return .busy }
        guard state.hasSpans else { return .staleSpans }
        let target = (QuarterHour.holding(now) - stride) / stride * stride
        guard target >= state.dayBoundary + stride else { return .upToDate }
        guard let start = try firstUsage(from: state.dayBoundary, connection), start < target else {
            try move(from: state.dayBoundary, to: target, connection)
            return .upToDate
        }
        let end = min(target, (start / QuarterHour.perDay + 1) * QuarterHour.perDay)
        try connection.executeScript("SET LOCAL work_mem = '64MB'")
        try connection.execute(
            """
            WITH cell AS MATERIALIZED (
                SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, \(RollupMeasures.ofCells)
                FROM metering.rollup_15m c
                WHERE c.quarter >= \(start) AND c.quarter < \(end)
                GROUP BY 1, 2, 3
            ), spans AS (
                INSERT INTO metering.rollup_span AS s (days, first_day, user_id, \(RollupSpans.columns))
                SELECT 1, c.day, c.user_id, \(RollupSpans.ofCells)
                FROM cell c WHERE c.user_id <> 0 AND \(RollupDimensions.countsForAll("c.dimension"))
                GROUP BY 2, 3
                ORDER BY 2, 3
                ON CONFLICT (days, first_day, user_id) DO UPDATE SET \(RollupSpans.added)
            )
            INSERT INTO metering.rollup_day AS u (user_id, day, dimension, \(RollupMeasures.columns))
            SELECT c.user_id, c.day, c.dimension, \(RollupMeasures.kept)
            FROM cell c
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, day, dimension) DO UPDATE SET \(RollupMeasures.added)
            """)
        try move(from: state.dayBoundary, to: end, connection)
        return .moved
    }

    private static func move(from old: Int, to new: Int, _ connection: Connection) throws {
        try RollupSpans.finish(from: old, to: new, connection)
        try RollupState.move("day_boundary", to: Int64(new), connection)
    }

    /// The first quarter hour with usage from `quarter` on. It looks at each user, because the rollups of all users
    /// lack what is self-reported.
    private static func firstUsage(from quarter: Int, _ connection: Connection) throws -> Int? {
        try connection.query(
            "SELECT min(quarter) FROM metering.rollup_15m WHERE quarter >= \(quarter)"
        )[0].decode(0, as: Int?.self)
    }
}

/// What each user used in spans of days, by which users are put in order (`migrations/0014_usage_spans.sql`). They do
/// not distinguish model, provider, status and plan.
///
/// The length of a span in days is a power of two, and it begins at a multiple of its length since 1970. Single days
/// hold what `rollup_day` holds. A longer span is written when it is over.
package enum RollupSpans {
    /// A span of days.
    package struct Span: Sendable, Hashable {
        /// How many: a power of two.
        package var days: Int
        /// Since 1970.
        package var first: Int
    }

    /// How many days a span has, ascending; the first spans are single days.
    static let lengths = (0...8).map { 1 << $0 }
    /// How many spans a longer one is made of.
    private static let parts = 2

    /// The columns after the key.
    static let measures = ["requests", "tokens", "cost"]
    /// ``measures`` in SQL.
    static let columns = Query(unsafeSQL: measures.joined(separator: ", "))

    /// `SET` of an upsert that adds `excluded` to the row `s` that is there.
    static let added: Query = """
        requests = \(unsafeSQL: Query.saturated("s.requests::numeric + excluded.requests")),
        tokens = \(unsafeSQL: Query.saturated("s.tokens::numeric + excluded.tokens")), cost = s.cost + excluded.cost
        """

    /// `SET` of an upsert that puts `excluded` in the place of the row that is there.
    static let replaced = Query(unsafeSQL: measures.map { "\($0) = excluded.\($0)" }.joined(separator: ", "))

    /// Aggregates over 15-minute rollups or day rollups `c`.
    static let ofCells: Query = """
        \(unsafeSQL: Query.saturated("sum(c.requests)")) AS requests,
        \(unsafeSQL: Query.saturated("sum(c.input_tokens) + sum(c.output_tokens)")) AS tokens,
        sum(metering.finite(c.cost)) AS cost
        """

    /// Aggregates over shorter spans `c`.
    static let ofSpans: Query = """
        \(unsafeSQL: Query.saturated("sum(c.requests)")) AS requests,
        \(unsafeSQL: Query.saturated("sum(c.tokens)")) AS tokens, sum(metering.finite(c.cost)) AS cost
        """

    /// The first day that is not over at the day boundary.
    static func firstOpenDay(_ dayBoundary: Int) -> Int { max(0, dayBoundary / QuarterHour.perDay) }

    /// The fewest spans that `days` are made of, when quarter hours before `dayBoundary` are in day rollups.
    package static func cover(_ days: Range<Int>, dayBoundary: Int) -> [Span] {
        let firstOpen = firstOpenDay(dayBoundary)
        var spans: [Span] = []
        var first = days.lowerBound
        while first < days.upperBound {
            let length = lengths.last { first % $0 == 0 && first + $0 <= min(days.upperBound, firstOpen) } ?? 1
            spans.append(Span(days: length, first: first))
            first += length
        }
        return spans
    }

    /// The first day of the span of `days` days that holds `day`, both in SQL.
    static func start(_ days: Query, of day: Query) -> Query { "\(day) - mod(\(day) - '1970-01-01'::date, \(days))" }

    /// Writes the spans that are over when the day boundary moves from `old` to `new`, each from those it is made of.
    ///
    /// - Throws: ``PostgresError``.
    static func finish(from old: Int, to new: Int, _ connection: Connection) throws {
        let (old, new) = (firstOpenDay(old), firstOpenDay(new))
        for days in lengths.dropFirst() {
            // The first span that was not over is the one that holds the old day boundary.
            let (first, end) = (old / days * days, new / days * days)
            guard first < end else { return }
            try connection.execute(
                """
                INSERT INTO metering.rollup_span (days, first_day, user_id, \(columns))
                SELECT \(days)::integer, \(start("\(days)::integer", of: "c.first_day")) AS start, c.user_id, \(ofSpans)
                FROM metering.rollup_span c
                WHERE c.days = \(days / parts)::integer AND c.first_day >= \(date(first)) AND c.first_day < \(date(end))
                GROUP BY start, c.user_id
                ORDER BY start, c.user_id
                ON CONFLICT (days, first_day, user_id) DO UPDATE SET \(replaced)
                """)
        }
    }

    /// Makes all of `rollup_span` again from `rollup_day`, unless it is current: a step of a pass, in a transaction of
    /// its own. Does nothing where another worker has the state.
    ///
    /// - Throws: ``PostgresError``.
    static func rebuildIfStale(_ connection: Connection) throws {
        guard let state = try RollupState.take(connection), !state.hasSpans else { return }
        try connection.executeScript("SET LOCAL work_mem = '64MB'; DELETE FROM metering.rollup_span")
        try connection.execute(
            """
            INSERT INTO metering.rollup_span (days, first_day, user_id, \(columns))
            SELECT 1, c.day, c.user_id, \(ofCells) FROM metering.rollup_day c
            WHERE c.user_id <> 0 AND \(RollupDimensions.countsForAll("c.dimension"))
            GROUP BY c.day, c.user_id
            ORDER BY c.day, c.user_id
            """)
        try finish(from: 0, to: state.dayBoundary, connection)
        try RollupState.noteSpans(connection)
    }

    /// CTE `spans` that adds what is late to the spans that are written: the rows of the CTE `cell` that are before the
    /// day boundary.
    static func adding(_ dayBoundary: Int, where isComplete: Query) -> Query {
        """
        spans AS (
            INSERT INTO metering.rollup_span AS s (days, first_day, user_id, \(columns))
            SELECT l.days, \(start("l.days", of: "c.day")) AS start, c.user_id, \(ofSpans)
            FROM (
                SELECT metering.day_of(c.quarter) AS day, c.user_id, \(ofCells)
                FROM cell c
                WHERE c.quarter < \(dayBoundary) AND c.user_id <> 0 AND NOT c.is_self_reported AND \(isComplete)
                GROUP BY 1, 2
            ) c CROSS JOIN unnest(\(lengths)::integer[]) AS l (days)
            WHERE l.days = 1 OR \(start("l.days", of: "c.day")) + l.days <= \(date(firstOpenDay(dayBoundary)))
            GROUP BY l.days, start, c.user_id
            ORDER BY l.days, start, c.user_id
            ON CONFLICT (days, first_day, user_id) DO UPDATE SET \(added)
        )
        """
    }

    /// CTE `difference` of the spans of `days` days in `range` that are not what the level below adds up to: the key,
    /// what is there, and what should be there (`expected_`), NULL for a span that should not be there.
    static func difference(_ days: Int, _ range: RollupRange, _ state: RollupState) -> Query {
        let user = range.contains(user: "c.user_id")
        let (first, end) = (floor(range.quarterHours.lowerBound, days), ceiling(range.quarterHours.upperBound, days))
        // Spans that are not over are not written.
        let firstOpen = firstOpenDay(state.dayBoundary)
        let expectedEnd = days == 1 ? end : min(end, firstOpen / days * days)
        let expected: Query =
            days == 1
            ? """
            SELECT c.day AS first_day, c.user_id, \(ofCells) FROM metering.rollup_day c
            WHERE c.day >= \(date(first)) AND c.day < \(date(expectedEnd)) AND \(user)
              AND \(RollupDimensions.countsForAll("c.dimension"))
            GROUP BY 1, 2
            """
            : """
            SELECT \(start("\(days)::integer", of: "c.first_day")) AS first_day, c.user_id, \(ofSpans)
            FROM metering.rollup_span c
            WHERE c.days = \(days / parts)::integer AND c.first_day >= \(date(first))
              AND c.first_day < \(date(expectedEnd)) AND \(user)
            GROUP BY 1, 2
            """
        return """
            expected AS (
                \(expected)
            ), actual AS (
                SELECT c.first_day, c.user_id, \(columns) FROM metering.rollup_span c
                WHERE c.days = \(days)::integer AND c.first_day >= \(date(first)) AND c.first_day < \(date(end))
                  AND \(user)
            ), difference AS MATERIALIZED (
                SELECT first_day, user_id, e.requests AS expected_requests, e.tokens AS expected_tokens,
                       e.cost AS expected_cost, a.requests, a.tokens, a.cost
                FROM expected e FULL JOIN actual a USING (first_day, user_id)
                WHERE (e.requests, e.tokens, e.cost) IS DISTINCT FROM (a.requests, a.tokens, a.cost)
            )
            """
    }

    /// Makes the spans of `range` again from the days, and returns how many were wrong.
    ///
    /// - Throws: ``PostgresError``.
    static func repair(_ range: RollupRange, _ state: RollupState, _ connection: Connection) throws -> Int {
        try lengths.reduce(0) { count, days in
            try count
                + connection.query(
                    """
                    WITH \(difference(days, range, state)), removed AS (
                        DELETE FROM metering.rollup_span s USING difference d
                        WHERE d.expected_requests IS NULL
                          AND (s.days, s.first_day, s.user_id) = (\(days)::integer, d.first_day, d.user_id)
                    ), written AS (
                        INSERT INTO metering.rollup_span (days, first_day, user_id, \(columns))
                        SELECT \(days)::integer, first_day, user_id, expected_requests, expected_tokens, expected_cost
                        FROM difference WHERE expected_requests IS NOT NULL
                        ORDER BY first_day, user_id
                        ON CONFLICT (days, first_day, user_id) DO UPDATE SET \(replaced)
                    )
                    SELECT count(*) FROM difference
                    """)[0].decode(0, as: Int.self)
        }
    }

    /// The first day of the span that holds `quarter`.
    private static func floor(_ quarter: Int, _ days: Int) -> Int {
        max(0, quarter) / (QuarterHour.perDay * days) * days
    }

    /// The first day after the span before `quarter`.
    private static func ceiling(_ quarter: Int, _ days: Int) -> Int {
        (max(0, quarter) + QuarterHour.perDay * days - 1) / (QuarterHour.perDay * days) * days
    }

    private static func date(_ day: Int) -> Query { "('1970-01-01'::date + \(day)::integer)" }
}
