import Domain
import Postgres

/// Sums by bucket and group: what summary, series and breakdown are made of.
struct UsageTable {
    /// One bucket of one group.
    struct Cell {
        /// From 1.
        var bucket: Int
        /// The group's place on the page, from 1; one behind the last that is told apart for all others together, and 0 for all
        /// on the pages before.
        var rank: Int
        /// `nil` of the others, of what has no such property, and where nothing is told apart.
        var key: String?
        /// How many groups these are.
        var groups: Int
        /// What the group is ordered by.
        var weight: String
        var sums: UsageSums
        /// Not of the others.
        var latency: UsageLatency
    }

    var scope: UsageScope
    var boundaries: [Int]
    var group: UsageGroup?
    var ranking = UsageRanking.requests
    /// Groups that are told apart.
    var limit = 1
    /// The group behind which they begin.
    var place: UsageBreakdown.Place?
    var hasLatency = false

    /// The cells with usage, by rank and bucket. One statement.
    ///
    /// - Throws: ``PostgresError``.
    func cells(_ snapshot: UsageSnapshot) throws -> [Cell] {
        let cells = UsageCells(scope, boundaries, by: group, hasHistograms: hasLatency, snapshot)
        return try self.cells(in: cells.query, snapshot)
    }

    /// The cells made of the CTE `cell` that `source` defines, grouped by its `key`.
    func cells(in source: Query, _ snapshot: UsageSnapshot) throws -> [Cell] {
        let latency: Query = hasLatency ? ", \(UsageLatency.query)" : ""
        let rows = try snapshot.connection.query(
            """
            WITH \(source), keyed AS (
                SELECT c.bucket, c.key, \(UsageSums.aggregates) FROM cell c GROUP BY 1, 2
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
                       max(t.weight)::text, \(UsageSums.total)
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
                sums: try UsageSums(row, from: 5), latency: try UsageLatency(row, from: 5 + UsageSums.columnCount))
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
