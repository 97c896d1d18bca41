import Domain
import Postgres
import Storage

/// The users of a range in the order of what they used, the largest first and equal ones by id.
struct UserRanking {
    /// A user on the page.
    struct User {
        var id: Int64
        /// What the user is ordered by, a decimal number.
        var weight: String
    }

    /// The ids of users on the pages before.
    private(set) var before: [Int64] = []
    /// Those on the page, in their order.
    private(set) var page: [User] = []
    /// How many users there are, those after the page included.
    private(set) var count = 0

    /// Ranks all users in `scope`, and reads the `limit` users after the page that ended at `previous`.
    ///
    /// - Throws: ``PostgresError``.
    static func read(
        _ scope: UsageScope, _ range: ReportRange, after previous: UsageBreakdown.PageEnd?, limit: Int,
        by ranking: UsageRanking, on snapshot: ReportSnapshot
    ) throws -> UserRanking {
        let statement = UserRankingStatement(
            scope: scope, range: range, previous: previous, limit: limit, ranking: ranking, state: snapshot.state)
        return try snapshot.connection.query(statement.query).reduce(into: UserRanking()) { order, row in
            let (id, weight, isAfter, count) = try row.decode(Int64.self, String.self, Bool.self, Int.self)
            if isAfter { order.page.append(User(id: id, weight: weight)) } else { order.before.append(id) }
            order.count = count
        }
    }
}

/// The statement of a ``UserRanking``.
struct UserRankingStatement {
    var scope: UsageScope
    var range: ReportRange
    var previous: UsageBreakdown.PageEnd?
    var limit: Int
    var ranking: UsageRanking
    var state: ReportState

    var query: Query {
        """
        WITH \(ReportFragments.pending(of: scope, range.quarterHours, state)), used AS (
            \(scope.isNarrow || !state.rollups.hasSpans ? days : spans)
            UNION ALL
            SELECT t.user_id, 1, \(measureOfPending) FROM pending t\(quarterHours)
        ), weighed AS MATERIALIZED (
            -- A measure that stands there twice is added up once.
            SELECT user_id, sum(\(unsafeSQL: ranking == .requests ? "requests" : "weight")) AS weight
            FROM used
            GROUP BY 1
            HAVING sum(requests) > 0
        ), placed AS MATERIALIZED (
            SELECT w.*, \(isAfter) AS is_after FROM weighed w
        )
        SELECT user_id, weight::text, is_after, (SELECT count(*) FROM placed)
        FROM (
            (SELECT * FROM placed WHERE NOT is_after)
            UNION ALL
            (SELECT * FROM placed WHERE is_after ORDER BY weight DESC, user_id LIMIT \(limit)::integer)
        ) p
        ORDER BY p.is_after, p.weight DESC, p.user_id
        """
    }

    /// Runs of whole days.
    private var spans: Query {
        let measure: Query =
            ranking == .cost ? "metering.finite(s.cost)" : Query(unsafeSQL: "s.\(ranking.rawValue)")
        let spans = RollupSpans.cover(dayRange, dayBoundary: state.rollups.dayBoundary)
        return """
            SELECT s.user_id, s.requests, \(measure) AS weight
                FROM unnest(\(spans.map(\.days))::integer[], \(spans.map(\.first))::integer[]) AS p (days, first)
                JOIN metering.rollup_span s ON s.days = p.days AND s.first_day = '1970-01-01'::date + p.first
            """
    }

    /// Days, where only a part of the usage is asked for, which spans do not distinguish, and where spans are stale.
    private var days: Query {
        """
        SELECT t.user_id, t.requests, \(ranking.measure) AS weight
            FROM metering.rollup_day t
            WHERE t.user_id <> 0 AND t.day >= '1970-01-01'::date + \(dayRange.lowerBound)::integer
              AND t.day < '1970-01-01'::date + \(dayRange.upperBound)::integer
              AND \(isInScope)
        """
    }

    /// 15-minute rollups: those after the day boundary, those in the range and not in its days (added), and those in
    /// its days and not in the range (subtracted). Each has bounds of its own: of many at once the planner expects that
    /// they are most of the table.
    private var quarterHours: Query {
        let cover = RollupCover(range.boundaries, dayBoundary: state.rollups.dayBoundary)
        let parts = [(cover.quarterHours, 1)] + cover.moves.map { ($0.quarterHours, $0.target == 1 ? 1 : -1) }
        return parts.filter { !$0.0.isEmpty }.reduce("") { text, part in
            """
            \(text)
                UNION ALL
                SELECT t.user_id, \(part.1)::integer * t.requests, \(part.1)::integer * (\(ranking.measure))
                FROM metering.rollup_15m t
                WHERE t.quarter >= \(part.0.lowerBound)::integer AND t.quarter < \(part.0.upperBound)::integer
                  AND t.user_id <> 0
                  AND \(isInScope)
            """
        }
    }

    private var measureOfPending: Query {
        switch ranking {
        case .requests: "1"
        case .tokens: ranking.measure
        case .cost: "coalesce(t.cost, 0)"
        }
    }

    /// Whether the rollup `t` is in the scope.
    private var isInScope: Query {
        scope.isNarrow
            ? """
            t.dimension = ANY(ARRAY(
                      SELECT d.dimension FROM metering.rollup_dimension d
                      WHERE \(scope.containsDimension("d"))))
            """ : RollupDimensions.countsForAll("t.dimension")
    }

    /// Whether the user `w` comes after the page before.
    private var isAfter: Query {
        guard let previous else { return "true" }
        return """
            (w.weight < \(previous.weight.text)::numeric
                OR w.weight = \(previous.weight.text)::numeric AND w.user_id > \(lastUser(previous))::bigint)
            """
    }

    private func lastUser(_ previous: UsageBreakdown.PageEnd) -> Int64 { previous.key.flatMap(Int64.init) ?? 0 }

    /// The whole days of the range, since 1970.
    private var dayRange: Range<Int> {
        let days = RollupCover(range.boundaries, dayBoundary: state.rollups.dayBoundary).days
        return (days.first ?? 0)..<(days.last ?? 0)
    }
}
