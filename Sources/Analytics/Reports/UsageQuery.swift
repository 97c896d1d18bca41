import Domain
import Postgres
import Storage

/// Usage by bucket and group: the statement of summary, series, breakdown, overview and call count.
struct UsageQuery {
    /// One bucket of one group.
    struct Row {
        /// From 1.
        var bucket: Int
        /// The group's rank on the page, from 1. All groups after the page together have the rank after the last, and
        /// all groups of the pages before have rank 0.
        var rank: Int
        /// `nil` of the others, of what has no such property, and where nothing is distinguished.
        var key: String?
        /// How many groups these are.
        var groups: Int
        /// What the group is ordered by, a decimal number.
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
    /// The end of the page before.
    var previous: UsageBreakdown.PageEnd?
    var hasLatency = false

    /// The rows with usage, by rank and bucket.
    ///
    /// - Throws: ``PostgresError``.
    func rows(on snapshot: ReportSnapshot) throws -> [Row] {
        try rows(of: statement(snapshot.state), on: snapshot)
    }

    /// The rows of a ``statement(of:)``.
    ///
    /// - Throws: ``PostgresError``.
    func rows(of statement: Query, on snapshot: ReportSnapshot) throws -> [Row] {
        try snapshot.connection.query(statement).map { row in
            let (bucket, rank, key, groups) = try row.decode(Int.self, Int.self, String?.self, Int.self)
            return Row(
                bucket: bucket, rank: rank, key: key, groups: groups, weight: try row.decode(4),
                sums: try UsageTotals(row, from: 5), latency: try UsageLatency(row, from: 5 + UsageTotals.columnCount))
        }
    }

    /// The statement on rollups and pending logs.
    func statement(_ state: ReportState) -> Query {
        let cover = RollupCover(boundaries, dayBoundary: state.rollups.dayBoundary)
        return statement(
            of: ReportFragments.usage(of: scope, in: cover, by: group, hasHistograms: hasLatency, state))
    }

    /// The statement on the rows of the CTE `usage`.
    func statement(of usage: Query) -> Query {
        """
        WITH \(usage), keyed AS (
        \(Self.keyed)
        ), weighed AS (
            SELECT t.*, sum(\(ranking.measure)) OVER (PARTITION BY t.key) AS weight FROM keyed t
        ), ranked AS (
            SELECT t.*, \(rank) AS position FROM weighed t
        ), total AS (
            SELECT t.bucket, t.position AS rank, t.key, 1::bigint AS groups, t.weight::text,
                   t.requests, t.unpriced, t.input_tokens, t.output_tokens, t.cached_tokens, t.reasoning_tokens,
                   t.duration_ms, t.errors, t.rate_limited, trim_scale(t.cost), trim_scale(t.ledger_cost)
            FROM ranked t
            WHERE t.position BETWEEN 1 AND \(limit)::integer
            UNION ALL
            -- All others: those before the page, and those after it.
            SELECT t.bucket, least(t.position, \(limit + 1)::integer), NULL, count(DISTINCT t.position),
                   max(t.weight)::text,
                   \(saturated: "sum(t.requests)"), \(saturated: "sum(t.unpriced)"),
                   \(saturated: "sum(t.input_tokens)"), \(saturated: "sum(t.output_tokens)"),
                   \(saturated: "sum(t.cached_tokens)"), \(saturated: "sum(t.reasoning_tokens)"),
                   \(saturated: "sum(t.duration_ms)"),
                   \(saturated: "sum(t.errors)"), \(saturated: "sum(t.rate_limited)"),
                   trim_scale(sum(t.cost)), trim_scale(sum(t.ledger_cost))
            FROM ranked t
            WHERE t.position NOT BETWEEN 1 AND \(limit)::integer
            GROUP BY 1, 2
        )\(hasLatency ? latency : noLatency)
        ORDER BY t.rank, t.bucket
        """
    }

    /// The sums of each bucket and key of the CTE `usage`.
    static let keyed: Query = """
            SELECT u.bucket, u.key,
                   \(saturated: "sum(u.sign * u.requests)") AS requests,
                   \(saturated: "sum(u.sign * u.unpriced)") AS unpriced,
                   \(saturated: "sum(u.sign * u.input_tokens)") AS input_tokens,
                   \(saturated: "sum(u.sign * u.output_tokens)") AS output_tokens,
                   \(saturated: "sum(u.sign * u.cached_tokens)") AS cached_tokens,
                   \(saturated: "sum(u.sign * u.reasoning_tokens)") AS reasoning_tokens,
                   \(saturated: "sum(u.sign * u.duration_ms)") AS duration_ms,
                   \(saturated: "coalesce(sum(u.sign * u.requests) FILTER (WHERE u.status = 'error'), 0)") AS errors,
                   \(saturated: "coalesce(sum(u.sign * u.requests) FILTER (WHERE u.status = 'rate_limited'), 0)")
                       AS rate_limited,
                   sum(u.sign * u.cost) AS cost, sum(u.sign * u.ledger_cost) AS ledger_cost
            FROM usage u
            GROUP BY 1, 2
            -- Not what was only moved out of the range.
            HAVING sum(u.sign * u.requests) > 0
        """

    /// How many requests are in each bucket of the histograms of the CTE `usage`.
    static let element: Query = """
            SELECT e.bucket, e.key, \(unsafeSQL: RollupHistogram.bucket(of: "e.element")) AS latency,
                   sum(e.sign * least(\(unsafeSQL: RollupHistogram.count(of: "e.element")), 2147483647)::integer)
                       AS count
            FROM (SELECT u.bucket, u.key, u.sign, unnest(u.histogram) AS element FROM usage u) e
            GROUP BY 1, 2, 3
        """

    /// A group's position in the order of the page.
    private var rank: Query {
        guard let previous else { return "dense_rank() OVER (ORDER BY t.weight DESC, t.key)" }
        // Of equal groups one without a key comes last.
        let isAfter: Query = """
            (t.weight < \(previous.weight.text)::numeric OR t.weight = \(previous.weight.text)::numeric
                AND (t.key > \(previous.key) OR t.key IS NULL AND \(previous.key)::text IS NOT NULL)) IS TRUE
            """
        return """
            CASE WHEN \(isAfter)
                THEN dense_rank() OVER (PARTITION BY \(isAfter) ORDER BY t.weight DESC, t.key) ELSE 0 END
            """
    }

    private var noLatency: Query {
        """

        SELECT t.*, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8
        FROM total t
        """
    }

    /// The percentiles of each group on the page.
    private var latency: Query {
        """
        , element AS (
        \(Self.element)
        ), ordered AS (
            -- How large a part of the requests took so long or shorter.
            SELECT e.bucket, e.key, e.latency, e.latency >= \(unsafeSQL: offset) AS is_first_token,
                   -- Exact up to 2^53 requests, and much faster than numeric.
                   sum(e.count::float8)
                       OVER (PARTITION BY e.bucket, e.key, e.latency >= \(unsafeSQL: offset) ORDER BY e.latency
                             ROWS UNBOUNDED PRECEDING)
                   / sum(e.count::float8) OVER (PARTITION BY e.bucket, e.key, e.latency >= \(unsafeSQL: offset))
                       AS part
            FROM element e WHERE e.count > 0
        ), latency AS (
            SELECT o.bucket, o.key, \(percentiles)
            FROM ordered o
            GROUP BY 1, 2
        )
        SELECT t.*, l.duration_50, l.duration_95, l.duration_99, l.first_token_50, l.first_token_95, l.first_token_99
        FROM total t
        LEFT JOIN latency l
            ON l.bucket = t.bucket AND l.key IS NOT DISTINCT FROM t.key AND t.rank BETWEEN 1 AND \(limit)::integer
        """
    }

    private var offset: String { "\(RollupHistogram.firstTokenOffset)" }

    private var percentiles: Query {
        func columns(_ name: String, _ filter: String, _ offset: String) -> [String] {
            [50, 95, 99].map { percent in
                let bucket = "min(o.latency) FILTER (WHERE \(filter) AND o.part >= 0.\(percent))\(offset)"
                return "metering.bucket_middle(\(bucket)) AS \(name)_\(percent)"
            }
        }
        let all =
            columns("duration", "NOT o.is_first_token", "")
            + columns("first_token", "o.is_first_token", " - \(offset)")
        return Query(unsafeSQL: all.joined(separator: ",\n           "))
    }
}
