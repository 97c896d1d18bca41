package import Domain
package import Postgres
import Storage

/// Sums by bucket and group: what summary, series and breakdown are made of.
struct UsageQuery {
    /// One bucket of one group.
    struct Cell {
        /// From 1.
        var bucket: Int
        /// The group's place on the page, from 1; one after the last that is distinguished for all others together,
        /// and 0 for all on the pages before.
        var rank: Int
        /// `nil` of the others, of what has no such property, and where nothing is distinguished.
        var key: String?
        /// How many groups these are.
        var groups: Int
        /// What the group is ordered by.
        var weight: String
        var sums: UsageTotals
        /// Not of the others.
        var latency: UsageLatency
    }

    var scope: UsageScope
    var boundaries: [Int]
    var group: UsageGroup?
    var ranking = UsageRanking.requests
    /// Groups that are distinguished.
    var limit = 1
    /// The group after which they begin.
    var place: UsageBreakdown.Place?
    var hasLatency = false

    /// The cells with usage, by rank and bucket. One statement.
    ///
    /// - Throws: ``PostgresError``.
    func cells(_ snapshot: ReportSnapshot) throws -> [Cell] {
        let cells = RollupCells(scope, boundaries, by: group, hasHistograms: hasLatency, snapshot)
        return try self.cells(in: cells.query, snapshot)
    }

    /// The cells made of the CTE `cell` that `source` defines, grouped by its `key`.
    func cells(in source: Query, _ snapshot: ReportSnapshot) throws -> [Cell] {
        let latency: Query = hasLatency ? ", \(UsageLatency.query)" : ""
        let rows = try snapshot.connection.query(
            """
            WITH \(source), keyed AS (
                SELECT c.bucket, c.key, \(UsageTotals.aggregates) FROM cell c GROUP BY 1, 2
                -- Not what was only moved out of the range.
                HAVING sum(c.sign * c.requests) > 0
            ), weighed AS (
                SELECT t.*, sum(\(ranking.measure)) OVER (PARTITION BY t.key) AS weight FROM keyed t
            ), ranked AS (
                SELECT t.*, \(rank) AS place FROM weighed t
            ), total AS (
                SELECT t.bucket, least(t.place, \(limit + 1)::integer) AS rank,
                       min(t.key) FILTER (WHERE t.place BETWEEN 1 AND \(limit)::integer) AS key,
                       count(DISTINCT t.place) AS groups,
                       max(t.weight)::text, \(UsageTotals.total)
                FROM ranked t GROUP BY 1, 2
            )\(latency)
            SELECT t.*, \(hasLatency ? UsageLatency.columns : UsageLatency.noColumns)
            FROM total t \(hasLatency ? latencyOfGroup : "")
            ORDER BY t.rank, t.bucket
            """)
        return try rows.map { row in
            let (bucket, rank, key, groups) = try row.decode(Int.self, Int.self, String?.self, Int.self)
            return Cell(
                bucket: bucket, rank: rank, key: key, groups: groups, weight: try row.decode(4),
                sums: try UsageTotals(row, from: 5), latency: try UsageLatency(row, from: 5 + UsageTotals.columnCount))
        }
    }

    /// A group's place on the page.
    private var rank: Query {
        guard let place else { return "dense_rank() OVER (ORDER BY t.weight DESC, t.key)" }
        // Of equal ones those without a key come last.
        let isBehind: Query = """
            (t.weight < \(place.weight.text)::numeric OR t.weight = \(place.weight.text)::numeric
             AND (t.key > \(place.key) OR t.key IS NULL AND \(place.key)::text IS NOT NULL))
            """
        return """
            CASE WHEN \(isBehind) IS TRUE
                 THEN dense_rank() OVER (PARTITION BY \(isBehind) IS TRUE ORDER BY t.weight DESC, t.key) ELSE 0 END
            """
    }

    private var latencyOfGroup: Query {
        """
        LEFT JOIN latency l
            ON l.bucket = t.bucket AND l.key IS NOT DISTINCT FROM t.key AND t.rank BETWEEN 1 AND \(limit)::integer
        """
    }
}

/// The cells of a report: sums of days and quarters, and pending logs, each in its bucket.
struct RollupCells {
    /// What a cell has beside bucket, sign and dimension.
    private static let measures = Query(unsafeSQL: RollupMeasures.names.joined(separator: ", "))
    // As they are in the tables.
    private static let stored = RollupMeasures.read

    private let scope: UsageScope
    private let pieces: RollupCover
    private let group: UsageGroup?
    /// Whether histograms are read as well.
    private let hasHistograms: Bool
    private let snapshot: ReportSnapshot

    /// The cells of the buckets between `boundaries`, distinguished by `group`.
    init(
        _ scope: UsageScope, _ boundaries: [Int], by group: UsageGroup?, hasHistograms: Bool = false,
        _ snapshot: ReportSnapshot
    ) {
        self.scope = scope
        self.group = group
        self.hasHistograms = hasHistograms
        self.snapshot = snapshot
        pieces = RollupCover(boundaries, dayBoundary: snapshot.state.dayBoundary)
    }

    /// CTE `cell` of (bucket, sign, status, key, measures, histogram); a cell counts `sign` times.
    var query: Query {
        """
        stored AS (
            \(days)
            UNION ALL
            \(moved)
            UNION ALL
            \(quarters)
        ), cell AS MATERIALIZED (
            SELECT s.bucket, s.sign, d.status, \(key("d", owner: "s")) AS key, \(Self.measures)\(column("s.histogram"))
            FROM stored s JOIN metering.rollup_dimension d USING (dimension)
            WHERE \(scope.ofDimension("d"))
            UNION ALL
            \(tail)
        )
        """
    }

    /// The pending logs, added up at once: they may be sixty thousand rows, and each step costs each of
    /// them.
    private var tail: Query {
        """
        SELECT width_bucket(f.occurred_at, ARRAY(
                   SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
                   FROM unnest(\(pieces.boundaries)::integer[]) WITH ORDINALITY AS b (quarter, place) ORDER BY b.place)),
               1, f.status, \(key("f", owner: "f")), \(hasHistograms ? RollupMeasures.ofFacts : RollupMeasures.sumsOfFacts)
        FROM (\(PendingLogs(scope, pieces.boundaries[0]..<pieces.boundaries[pieces.boundaries.count - 1], snapshot).query)) f
        GROUP BY 1, 3, 4
        """
    }

    /// The condition on whose cells are read.
    private func owner(_ column: Query) -> Query { scope.ofSums(column, by: group) }

    /// What cells are distinguished by, of facts or dimensions `alias` of the users of the rows `owner`.
    private func key(_ alias: Query, owner: Query) -> Query {
        group?.column(alias, owner: owner) ?? "NULL::text"
    }

    private var days: Query {
        """
        SELECT width_bucket(u.day - '1970-01-01'::date, \(pieces.days)::integer[]) AS bucket, 1 AS sign,
               u.dimension, u.user_id, \(Self.stored)\(column("u.histogram"))
        FROM metering.rollup_day u
        WHERE \(owner("u.user_id")) AND u.day >= '1970-01-01'::date + \(pieces.days.first ?? 0)::integer
          AND u.day < '1970-01-01'::date + \(pieces.days.last ?? 0)::integer
        """
    }

    private var moved: Query {
        """
        SELECT s.bucket, s.sign, u.dimension, u.user_id, \(Self.measures)\(column("u.histogram"))
        FROM unnest(\(pieces.moves.map(\.quarters.lowerBound))::integer[], \(pieces.moves.map(\.quarters.upperBound))::integer[],
                    \(pieces.moves.map(\.source))::integer[], \(pieces.moves.map(\.target))::integer[])
             AS m (start, stop, source, target)
        CROSS JOIN LATERAL (
            SELECT c.dimension, c.user_id, \(hasHistograms ? RollupMeasures.ofCells : RollupMeasures.sumsOfCells)
            FROM metering.rollup_15m c
            WHERE \(owner("c.user_id")) AND c.quarter >= m.start AND c.quarter < m.stop
            GROUP BY 1, 2
        ) u
        CROSS JOIN LATERAL (VALUES (m.source, -1), (m.target, 1)) AS s (bucket, sign)
        WHERE s.bucket > 0 AND s.bucket < \(pieces.boundaries.count)::integer
        """
    }

    private var quarters: Query {
        """
        SELECT width_bucket(u.quarter, \(pieces.boundaries)::integer[]), 1, u.dimension, u.user_id,
               \(Self.stored)\(column("u.histogram"))
        FROM metering.rollup_15m u
        WHERE \(owner("u.user_id")) AND u.quarter >= \(pieces.quarters.lowerBound)::integer
          AND u.quarter < \(pieces.quarters.upperBound)::integer
        """
    }

    private func column(_ histogram: Query) -> Query { hasHistograms ? ", \(histogram)" : "" }
}

/// Which cells of days and quarters make up the buckets of a report (`migrations/0007_usage.sql`).
///
/// A day counts in the bucket that holds its middle; where a boundary cuts it, the quarters on the boundary's other
/// side are moved: taken from that bucket and given to theirs. After the border there are only quarters.
package struct RollupCover: Sendable, Hashable {
    /// Quarters that count in another bucket than their day.
    package struct Move: Sendable, Hashable {
        package var quarters: Range<Int>
        /// The bucket of their day, and their own. Buckets are counted from 1; 0 and the one after the last are
        /// outside.
        package var source: Int
        package var target: Int
    }

    private static let quartersOfDay = 96
    /// Ranges below two days are read from quarters alone.
    private static let fewQuarters = 2 * quartersOfDay

    /// Where each bucket begins, and where the last one ends, in quarters.
    package let boundaries: [Int]
    /// The first day of each bucket, since 1970, and the first after the last one; empty where no day is read.
    package private(set) var days: [Int] = []
    package private(set) var moves: [Move] = []
    /// The quarters that are read as they are.
    package private(set) var quarters: Range<Int>

    /// The pieces for buckets between `boundaries`, at least two and ascending, when quarters before `dayBoundary` are
    /// in days.
    package init(_ boundaries: [Int], dayBoundary: Int) {
        self.boundaries = boundaries
        let (low, high) = (boundaries[0], boundaries[boundaries.count - 1])
        quarters = low..<high
        // Buckets shorter than days gain nothing by them.
        let isFine = (high - low) < Self.fewQuarters || (high - low) / (boundaries.count - 1) < Self.quartersOfDay / 2
        guard dayBoundary > low, !isFine else { return }
        quarters = min(dayBoundary, high)..<high
        days = boundaries.map { Self.firstDay(from: $0, dayBoundary) }
        moves = cutDays(dayBoundary).flatMap { movesOfDay(Self.cover($0, dayBoundary)) }
    }

    /// The bucket of a quarter: how many boundaries lie at or before it, as PostgreSQL's `width_bucket` has it.
    package func bucket(of quarter: Int) -> Int {
        var (low, high) = (0, boundaries.count)
        while low < high {
            let middle = (low + high) / 2
            if boundaries[middle] <= quarter { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The quarters of a day that are in it.
    private static func cover(_ day: Int, _ dayBoundary: Int) -> Range<Int> {
        day * quartersOfDay..<min((day + 1) * quartersOfDay, dayBoundary)
    }

    /// The first day whose middle is `quarter` or later; at most the first day that is not written.
    private static func firstDay(from quarter: Int, _ dayBoundary: Int) -> Int {
        guard quarter < dayBoundary else { return (dayBoundary - 1) / quartersOfDay + 1 }
        let day = quarter / quartersOfDay
        return middle(cover(day, dayBoundary)) >= quarter ? day : day + 1
    }

    private static func middle(_ cover: Range<Int>) -> Int { (cover.lowerBound + cover.upperBound) / 2 }

    /// The days that a boundary cuts, each once.
    private func cutDays(_ dayBoundary: Int) -> [Int] {
        var days: [Int] = []
        for boundary in boundaries where boundary < dayBoundary && boundary % Self.quartersOfDay != 0 {
            let day = boundary / Self.quartersOfDay
            if days.last != day { days.append(day) }
        }
        return days
    }

    private func movesOfDay(_ cover: Range<Int>) -> [Move] {
        let source = bucket(of: Self.middle(cover))
        let cuts = boundaries.filter { $0 > cover.lowerBound && $0 < cover.upperBound }
        let inside = 1..<boundaries.count
        return zip([cover.lowerBound] + cuts, cuts + [cover.upperBound]).compactMap { start, end in
            let target = bucket(of: start)
            guard target != source, inside.contains(source) || inside.contains(target) else { return nil }
            return Move(quarters: start..<end, source: source, target: target)
        }
    }
}

/// The rows after the watermark that are in a range and scope.
struct PendingLogs {
    private let scope: UsageScope
    /// Quarters of an hour since 1970.
    private let quarters: Range<Int>
    private let snapshot: ReportSnapshot

    /// The rows of `scope` in `quarters`.
    init(_ scope: UsageScope, _ quarters: Range<Int>, _ snapshot: ReportSnapshot) {
        self.scope = scope
        self.quarters = quarters
        self.snapshot = snapshot
    }

    /// The facts. No condition on the key, by which only some months would have to be opened: the planner, who does not
    /// know how short the tail is, would read these months by it.
    var query: Query {
        """
        SELECT f.* FROM (
            SELECT * FROM \(LogOrigin.events.facts(after: snapshot.state.eventWatermark, through: .max)) f
            WHERE \(scope.ofFacts("f"))
            \(snapshot.hasLogsBehind ? logs : "")
        ) f
        WHERE f.occurred_at >= \(ReportRange.start(of: quarters.lowerBound))
          AND f.occurred_at < \(ReportRange.start(of: quarters.upperBound)) AND \(scope.ofDimension("f"))
        """
    }

    /// OFFSET 0: the planner, who does not know how short the tail is, would read all of the user's rows instead.
    private var logs: Query {
        """
        UNION ALL
        SELECT * FROM (
            SELECT * FROM \(LogOrigin.laravel.facts(after: snapshot.state.laravelWatermark, through: .max)) OFFSET 0
        ) f
        WHERE \(scope.ofFacts("f"))
        """
    }
}

/// One state of the database, in which every number of a report, or of a page of reports, is true at the same time.
package struct ReportSnapshot {
    package let connection: Connection
    /// How far the sums are; what lies after is read from the rows themselves.
    package let state: RollupState
    /// Whether `api_logs` has pending logs without an event.
    let hasLogsBehind: Bool
    /// The moment of the state: whatever was committed before it is counted.
    package let asOf: Timestamp

    /// Gives `body` the present state.
    ///
    /// Where the ids of `api_logs` began again and no worker has noticed, that is noted first (``IDLine``). A prepared
    /// statement that no longer fits a changed table is prepared again, with all others.
    ///
    /// - Throws: ``PostgresError``, and what `body` throws.
    package static func take<T>(_ connection: Connection, _ body: (ReportSnapshot) throws -> T) throws -> T {
        do {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        } catch let error as PostgresError where error.isSafeToRetry {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        }
    }

    private static func takeOnce<T>(_ connection: Connection, _ body: (ReportSnapshot) throws -> T) throws -> T {
        try connection.transaction(.snapshot) { connection in
            // Planning a statement over every month of events takes longer than running it: plan once.
            try connection.executeScript("SET LOCAL plan_cache_mode = force_generic_plan")
            // The worker rolls up rows without an event within a second or two: mostly there are none to look for,
            // which is half of a report's plan. Not EXISTS, for which a planner who thinks there are many reads the
            // table from its begin.
            let rows = try connection.query(
                """
                SELECT \(RollupState.columns), \(microseconds: "now()"),
                       EXISTS (SELECT FROM metering.id_ranges(other_log_id, \(Int64.max)) r
                               WHERE (SELECT max(l.id) FROM public.api_logs l WHERE l.id <= r.upper) > r.lower),
                       metering.ids_began_again() AND NOT pg_is_in_recovery()
                FROM metering.rollup_watermark
                """)
            guard let row = rows.first else { throw RollupState.Missing() }
            // A standby shows what its primary knows.
            guard try !row.decode(RollupState.columnCount + 2, as: Bool.self) else { throw IDLine.BeganAgain() }
            let now = try row.decode(RollupState.columnCount, as: Int64.self)
            return try body(
                ReportSnapshot(
                    connection: connection, state: RollupState(row),
                    hasLogsBehind: row.decode(RollupState.columnCount + 1), asOf: Timestamp(microseconds: now)))
        }
    }
}
