package import Domain
import Postgres
import Storage

/// What usage consists of: the largest groups, and all others together.
package struct UsageBreakdown: Sendable, Hashable {
    /// One group.
    package struct Part: Sendable, Hashable {
        /// Its model, provider, status, plan, user, error code, tag or end user; `nil` where the calls have none.
        package let key: String?
        package let sums: UsageTotals
        package let latency: UsageLatency
        /// Its part of the whole by what the groups are ordered by, 0 to 1; `nil` where the whole is nothing.
        package let share: Double?
    }

    /// Where a page ended: its last group, and the measure it is ordered by.
    package struct Place: Sendable, Hashable {
        package let weight: DecimalLiteral
        package let key: String?

        package init(weight: DecimalLiteral, key: String?) {
            self.weight = weight
            self.key = key
        }
    }

    /// The groups after those that have a part of their own.
    package struct Others: Sendable, Hashable {
        package let groups: Int
        package let sums: UsageTotals
        package let share: Double?
    }

    package let range: ReportRange
    package let total: UsageTotals
    /// The largest first; equal ones in the order of their keys, users by id.
    package let parts: [Part]
    /// `nil` where no group is after the last part.
    package let others: Others?
    /// Where the next page begins; `nil` on the last.
    package let next: Place?

    /// The `limit` largest groups, or those after `place`; total and shares are of all.
    ///
    /// - Throws: ``PostgresError``.
    package init(
        _ scope: UsageScope, _ range: ReportRange, by group: UsageGroup, after place: Place? = nil, limit: Int = 10,
        rankedBy ranking: UsageRanking = .requests, hasLatency: Bool = false, _ snapshot: ReportSnapshot
    ) throws {
        if group == .user, scope.users == nil {
            let total = try UsageQuery(scope: scope, boundaries: range.boundaries).cells(snapshot).first?.sums
            // Of what was cut off at 2^63-1 nothing can be taken away.
            if let total, !total.isSaturated {
                try self.init(
                    scope, range, of: total, after: place, limit: limit, rankedBy: ranking, hasLatency: hasLatency,
                    snapshot)
                return
            }
        }
        let table = UsageQuery(
            scope: scope, boundaries: range.boundaries, group: group, ranking: ranking, limit: limit, place: place,
            hasLatency: hasLatency)
        self.init(range, try table.cells(snapshot), total: nil, table)
    }

    /// Users are many: first they are put in order, then those on the page are looked at, and the others are what is
    /// left.
    private init(
        _ scope: UsageScope, _ range: ReportRange, of total: UsageTotals, after place: Place?, limit: Int,
        rankedBy ranking: UsageRanking, hasLatency: Bool, _ snapshot: ReportSnapshot
    ) throws {
        func read(_ users: [Int64], by group: UsageGroup?, hasLatency: Bool) throws -> [UsageQuery.Cell] {
            guard !users.isEmpty else { return [] }
            var scope = scope
            scope.users = users
            let table = UsageQuery(
                scope: scope, boundaries: range.boundaries, group: group, limit: users.count, hasLatency: hasLatency)
            return try table.cells(snapshot)
        }
        let order = try UserRanking(scope, range, after: place, limit: limit, by: ranking, snapshot)
        let cells = Dictionary(
            uniqueKeysWithValues: try read(order.page.map(\.user), by: .user, hasLatency: hasLatency)
                .map { ($0.key, $0) })
        let before = try read(order.before, by: nil, hasLatency: false).first?.sums ?? UsageTotals()
        self.range = range
        self.total = total
        parts = order.page.map { place in
            let cell = cells["\(place.user)"]
            let sums = cell?.sums ?? UsageTotals()
            return Part(
                key: "\(place.user)", sums: sums, latency: cell?.latency ?? UsageLatency(),
                share: ranking.share(of: sums, in: total))
        }
        let behind = order.count - order.before.count - order.page.count
        if behind > 0 {
            let rest = parts.reduce(total - before) { $0 - $1.sums }
            others = Others(groups: behind, sums: rest, share: ranking.share(of: rest, in: total))
        } else {
            others = nil
        }
        next =
            others == nil
            ? nil
            : order.page.last.flatMap { last in
                DecimalLiteral(last.weight).map { Place(weight: $0, key: "\(last.user)") }
            }
    }

    /// The parts that `cells` of `table` are; of a total that is not their sum where a call may be in several.
    init(_ range: ReportRange, _ cells: [UsageQuery.Cell], total: UsageTotals?, _ table: UsageQuery) {
        let total = total ?? cells.reduce(UsageTotals()) { $0 + $1.sums }
        self.range = range
        self.total = total
        let own = cells.filter { (1...table.limit).contains($0.rank) }
        parts = own.map { cell in
            Part(
                key: cell.key, sums: cell.sums, latency: cell.latency,
                share: table.ranking.share(of: cell.sums, in: total))
        }
        others = cells.first { $0.rank > table.limit }.map { cell in
            Others(groups: cell.groups, sums: cell.sums, share: table.ranking.share(of: cell.sums, in: total))
        }
        let last = others == nil ? nil : own.last
        next = last.flatMap { last in DecimalLiteral(last.weight).map { Place(weight: $0, key: last.key) } }
    }
}

extension UsageRanking {
    /// The part of `total` that `sums` are, 0 to 1.
    fileprivate func share(of sums: UsageTotals, in total: UsageTotals) -> Double? {
        func measure(_ sums: UsageTotals) -> Double {
            switch self {
            case .requests: Double(sums.requests)
            case .tokens: Double(sums.tokens)
            case .cost: Double(sums.pricedCost.picodollars)
            }
        }
        let whole = measure(total)
        return whole > 0 ? measure(sums) / whole : nil
    }
}

/// The users of a range in the order of what they used, the largest first and equal ones by id.
struct UserRanking {
    /// A user, and what they are ordered by.
    struct Place {
        /// Its id.
        var user: Int64
        /// A decimal number.
        var weight: String
    }

    /// The users of the pages before.
    private(set) var before: [Int64] = []
    /// Those of the page, in their order.
    private(set) var page: [Place] = []
    /// How many there are, those after the page included.
    private(set) var count = 0

    /// Ranks all users in `scope`, and reads the `limit` users after `place`.
    ///
    /// - Throws: ``PostgresError``.
    init(
        _ scope: UsageScope, _ range: ReportRange, after place: UsageBreakdown.Place?, limit: Int,
        by ranking: UsageRanking, _ snapshot: ReportSnapshot
    ) throws {
        let source = UserRankingSource(scope, range, ranking, snapshot)
        let isBehind: Query =
            place.map { place in
                """
                (w.weight < \(place.weight.text)::numeric
                 OR w.weight = \(place.weight.text)::numeric AND w.user_id > \(place.key.flatMap(Int64.init) ?? 0)::bigint)
                """
            } ?? "true"
        // What stands there twice is added up once.
        let weight: Query = ranking == .requests ? "requests" : "weight"
        let rows = try snapshot.connection.query(
            """
            WITH used AS (
                \(source.query)
            ), weighed AS MATERIALIZED (
                SELECT user_id, sum(\(weight)) AS weight FROM used GROUP BY 1 HAVING sum(requests) > 0
            ), placed AS MATERIALIZED (
                SELECT w.*, \(isBehind) AS is_behind FROM weighed w
            )
            SELECT user_id, weight::text, is_behind, (SELECT count(*) FROM placed)
            FROM (
                (SELECT * FROM placed WHERE NOT is_behind)
                UNION ALL
                (SELECT * FROM placed WHERE is_behind ORDER BY weight DESC, user_id LIMIT \(limit)::integer)
            ) p
            ORDER BY p.is_behind, p.weight DESC, p.user_id
            """)
        for row in rows {
            let (user, weight, isBehind, count) = try row.decode(Int64.self, String.self, Bool.self, Int.self)
            if isBehind { page.append(Place(user: user, weight: weight)) } else { before.append(user) }
            self.count = count
        }
    }
}

/// What users used, row by row, of one measure.
private struct UserRankingSource {
    private let scope: UsageScope
    private let range: ReportRange
    private let ranking: UsageRanking
    private let pieces: RollupCover
    private let snapshot: ReportSnapshot

    init(_ scope: UsageScope, _ range: ReportRange, _ ranking: UsageRanking, _ snapshot: ReportSnapshot) {
        self.scope = scope
        self.range = range
        self.ranking = ranking
        self.snapshot = snapshot
        pieces = RollupCover(range.boundaries, dayBoundary: snapshot.state.dayBoundary)
    }

    /// Rows of (user_id, requests, weight).
    var query: Query {
        quarters.reduce(
            """
            \(scope.isNarrow || !snapshot.state.hasSpans ? days : spans)
            UNION ALL
            SELECT t.user_id, 1, \(ranking.measureOfFact)
            FROM (\(PendingLogs(scope, range.quarters, snapshot).query)) t
            """
        ) { "\($0) UNION ALL \($1)" }
    }

    private var spans: Query {
        let spans = RollupSpans.cover(dayRange, dayBoundary: snapshot.state.dayBoundary)
        return """
            SELECT s.user_id, s.requests, \(ranking.measureOfSpan) AS weight
            FROM unnest(\(spans.map(\.days))::integer[], \(spans.map(\.first))::integer[]) AS p (days, first)
            JOIN metering.rollup_span s ON s.days = p.days AND s.first_day = '1970-01-01'::date + p.first
            """
    }

    /// Where only a part of the usage is asked for, which runs do not tell apart, and where there are none yet.
    private var days: Query {
        """
        SELECT t.user_id, t.requests, \(ranking.measure) AS weight
        FROM metering.rollup_day t
        WHERE t.user_id <> 0 AND t.day >= '1970-01-01'::date + \(dayRange.lowerBound)::integer
          AND t.day < '1970-01-01'::date + \(dayRange.upperBound)::integer AND \(isInScope)
        """
    }

    /// Quarters that no day holds; those that are in the range and not in its days, and the other way round. Each with
    /// bounds of its own, as of many at once the planner thinks that they are most of the table.
    private var quarters: [Query] {
        let parts = [(pieces.quarters, 1)] + pieces.moves.map { ($0.quarters, $0.target == 1 ? 1 : -1) }
        return parts.filter { !$0.0.isEmpty }.map { quarters, sign in
            """
            SELECT t.user_id, \(sign)::integer * t.requests, \(sign)::integer * (\(ranking.measure))
            FROM metering.rollup_15m t
            WHERE t.quarter >= \(quarters.lowerBound)::integer AND t.quarter < \(quarters.upperBound)::integer
              AND t.user_id <> 0 AND \(isInScope)
            """
        }
    }

    private var isInScope: Query {
        scope.isNarrow
            ? """
            t.dimension = ANY(ARRAY(
                SELECT d.dimension FROM metering.rollup_dimension d WHERE \(scope.ofDimension("d"))))
            """ : RollupDimensions.countsForAll("t.dimension")
    }

    private var dayRange: Range<Int> { (pieces.days.first ?? 0)..<(pieces.days.last ?? 0) }
}

extension UsageRanking {
    /// The measure of a row of `rollup_span`.
    fileprivate var measureOfSpan: Query {
        self == .cost ? "metering.finite(s.cost)" : Query(unsafeSQL: "s.\(rawValue)")
    }

    /// The measure of a fact `t`.
    fileprivate var measureOfFact: Query {
        switch self {
        case .requests: "1"
        case .tokens: measure
        case .cost: "coalesce(t.cost, 0)"
        }
    }
}
