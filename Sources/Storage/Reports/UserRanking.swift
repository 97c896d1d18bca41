import Domain
import Postgres

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
    /// How many there are, those behind the page included.
    private(set) var count = 0

    /// Ranks everybody in `scope`, and reads the `limit` users behind `place`.
    ///
    /// - Throws: ``PostgresError``.
    init(
        _ scope: UsageScope, _ range: ReportRange, after place: UsageBreakdown.Place?, limit: Int,
        by ranking: UsageRanking, _ snapshot: UsageSnapshot
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
    private let pieces: UsagePieces
    private let snapshot: UsageSnapshot

    init(_ scope: UsageScope, _ range: ReportRange, _ ranking: UsageRanking, _ snapshot: UsageSnapshot) {
        self.scope = scope
        self.range = range
        self.ranking = ranking
        self.snapshot = snapshot
        pieces = UsagePieces(range.boundaries, daysBefore: snapshot.cursor.daysBefore)
    }

    /// Rows of (user_id, requests, weight).
    var query: Query {
        quarters.reduce(
            """
            \(scope.isNarrow || !snapshot.cursor.hasSpans ? days : spans)
            UNION ALL
            SELECT t.user_id, 1, \(ranking.measureOfFact)
            FROM (\(UsageTail(scope, range.quarters, snapshot).query)) t
            """
        ) { "\($0) UNION ALL \($1)" }
    }

    private var spans: Query {
        let spans = UsageSpans.cover(dayRange, daysBefore: snapshot.cursor.daysBefore)
        return """
            SELECT s.user_id, s.requests, \(ranking.measureOfSpan) AS weight
            FROM unnest(\(spans.map(\.days))::integer[], \(spans.map(\.first))::integer[]) AS p (days, first)
            JOIN metering.usage_spans s ON s.days = p.days AND s.first_day = '1970-01-01'::date + p.first
            """
    }

    /// Where only a part of the usage is asked for, which runs do not tell apart, and where there are none yet.
    private var days: Query {
        """
        SELECT t.user_id, t.requests, \(ranking.measure) AS weight
        FROM metering.usage_days t
        WHERE t.user_id <> 0 AND t.day >= '1970-01-01'::date + \(dayRange.lowerBound)::integer
          AND t.day < '1970-01-01'::date + \(dayRange.upperBound)::integer AND \(isInScope)
        """
    }

    /// Quarters that no day holds; those that are in the range and not in its days, and the other way round. Each with bounds of
    /// its own, as of many at once the planner thinks that they are most of the table.
    private var quarters: [Query] {
        let parts = [(pieces.quarters, 1)] + pieces.moves.map { ($0.quarters, $0.target == 1 ? 1 : -1) }
        return parts.filter { !$0.0.isEmpty }.map { quarters, sign in
            """
            SELECT t.user_id, \(sign)::integer * t.requests, \(sign)::integer * (\(ranking.measure))
            FROM metering.usage_quarters t
            WHERE t.quarter >= \(quarters.lowerBound)::integer AND t.quarter < \(quarters.upperBound)::integer
              AND t.user_id <> 0 AND \(isInScope)
            """
        }
    }

    private var isInScope: Query {
        scope.isNarrow
            ? """
            t.dimension = ANY(ARRAY(
                SELECT d.dimension FROM metering.usage_dimensions d WHERE \(scope.ofDimension("d"))))
            """ : UsageDimensions.countsForAll("t.dimension")
    }

    private var dayRange: Range<Int> { (pieces.days.first ?? 0)..<(pieces.days.last ?? 0) }
}

extension UsageRanking {
    /// The measure of a row of `usage_spans`.
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
