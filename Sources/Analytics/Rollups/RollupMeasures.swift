import Postgres
import Storage

/// What a rollup adds up, in the order of its columns: one list for the rollup pass, the days, verify, rebuild and
/// reports.
enum RollupMeasures {
    /// Whole numbers, which saturate at 2^63-1: one absurd event must not stop the rollup pass.
    static let counts = [
        "requests", "unpriced", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "duration_ms",
    ]
    /// Exact decimals.
    static let amounts = ["cost", "ledger_cost"]
    static let names = counts + amounts

    /// ``names`` in SQL.
    static let list = Query(unsafeSQL: names.joined(separator: ", "))

    /// The columns of a cell after its key.
    static let columns: Query = "\(list), histogram"

    /// ``names`` of the cell `u`, as a report reads them: an amount that is NaN adds nothing until `rebuild` makes it
    /// again.
    static let read = Query(
        unsafeSQL: """
            \(counts.map { "u.\($0)" }.joined(separator: ", ")),
                   \(amounts.map { "metering.finite(u.\($0)) AS \($0)" }.joined(separator: ", "))
            """)

    /// Aggregates over the facts `f` of a cell.
    static let ofFacts: Query = "\(sumsOfFacts),\n           \(histogramOfFacts)"

    /// Aggregates over the facts `f` of a cell, without its histogram.
    static let sumsOfFacts = lines(
        indent: 11,
        [
            "count(*) AS requests", "count(*) - count(f.cost) AS unpriced",
            "\(Query.saturated("sum(f.input_tokens)")) AS input_tokens",
            "\(Query.saturated("sum(f.output_tokens)")) AS output_tokens",
            "\(Query.saturated("sum(f.cached_tokens)")) AS cached_tokens",
            "\(Query.saturated("sum(f.reasoning_tokens)")) AS reasoning_tokens",
            "\(Query.saturated("sum(coalesce(f.duration_ms, 0))")) AS duration_ms",
            "coalesce(sum(f.cost), 0) AS cost", "sum(f.ledger_cost) AS ledger_cost",
        ])

    private static let histogramOfFacts = Query(
        unsafeSQL: """
            coalesce(array_agg(\(RollupHistogram.element(ofDuration: "f.duration_ms")))
                           FILTER (WHERE f.duration_ms IS NOT NULL)
                       || array_agg(\(RollupHistogram.element(ofFirstToken: "f.first_token_ms")))
                           FILTER (WHERE f.first_token_ms IS NOT NULL), '{}') AS histogram
            """)

    /// Aggregates over the cells `c` of a coarser cell, without its histogram.
    static let sumsOfCells = lines(
        indent: 15,
        counts.map { "\(Query.saturated("sum(c.\($0))")) AS \($0)" }
            + amounts.map { "sum(metering.finite(c.\($0))) AS \($0)" })

    /// Aggregates over the few cells `c` of a coarser cell.
    static let ofCells: Query =
        "\(sumsOfCells),\n               coalesce(metering.joined(c.histogram), '{}') AS histogram"

    /// The columns of a new cell `c`, its histogram short enough to keep.
    static let kept = Query(unsafeSQL: names.map { "c.\($0)" }.joined(separator: ", ") + ", " + merged("c.histogram"))

    /// `SET` of an upsert that adds `excluded` to the cell `u` that is there.
    static let added = Query(
        unsafeSQL: (counts.map { "\($0) = \(Query.saturated("u.\($0)::numeric + excluded.\($0)"))" }
            + amounts.map { "\($0) = u.\($0) + excluded.\($0)" }
            + ["histogram = " + merged("u.histogram || excluded.histogram")]).joined(separator: ", "))

    /// `SET` of an update that takes the cell `c` out of the cell `u`, which covers it.
    static let subtracted = Query(
        unsafeSQL: (names.map { "\($0) = u.\($0) - c.\($0)" }
            + ["histogram = metering.without(u.histogram, c.histogram)"]).joined(separator: ", "))

    /// Whether the cell `u` has at least what `c` has, none of its counts is saturated, and its amounts are numbers.
    static let covers = Query(
        unsafeSQL: (counts.map { "u.\($0) >= c.\($0) AND u.\($0) < 9223372036854775807" }
            + amounts.map { "metering.finite(u.\($0)) = u.\($0)" }).joined(separator: " AND "))

    /// `SET` of an upsert that puts `excluded` in the place of the cell that is there.
    static let replaced = Query(
        unsafeSQL: (names + ["histogram"]).map { "\($0) = excluded.\($0)" }.joined(separator: ", "))

    /// The columns of the cell `e`.
    static let ofExpected = Query(unsafeSQL: (names + ["histogram"]).map { "e.\($0)" }.joined(separator: ", "))

    /// Whether the cells `e` and `a` differ; each may be missing.
    static let differ = Query(
        unsafeSQL: """
            ((\(names.map { "e.\($0)" }.joined(separator: ", ")))
             IS DISTINCT FROM (\(names.map { "a.\($0)" }.joined(separator: ", ")))
             OR (e.histogram <> a.histogram
                 AND metering.merged(e.histogram) IS DISTINCT FROM metering.merged(a.histogram)))
            """)

    /// A column for each line, indented for where the statements of reports have them.
    private static func lines(indent: Int, _ columns: [String]) -> Query {
        Query(unsafeSQL: columns.joined(separator: ",\n" + String(repeating: " ", count: indent)))
    }

    /// Elements up to which a histogram may hold a bucket several times: merging costs more than reading them.
    private static func merged(_ histogram: String) -> String {
        "CASE WHEN cardinality(\(histogram)) <= 64 THEN \(histogram) ELSE metering.merged(\(histogram)) END"
    }
}

/// How a histogram of latencies is written: an array of elements, each of which packs a bucket and a count into a
/// `bigint`. A bucket may have several elements. The SQL functions `metering.merged`, `joined` and `without` use the
/// same form.
enum RollupHistogram {
    /// Added to the bucket of a time to the first token, so that both latencies share one array.
    static let firstTokenOffset = 2000

    private static let countBits = 40

    /// The element that counts one duration in milliseconds.
    static func element(ofDuration milliseconds: String) -> String {
        element(bucket: "metering.bucket_of(\(milliseconds))")
    }

    /// The element that counts one time to the first token in milliseconds.
    static func element(ofFirstToken milliseconds: String) -> String {
        element(bucket: "(metering.bucket_of(\(milliseconds)) + \(firstTokenOffset))")
    }

    /// The element that counts `count` in `bucket`.
    static func element(bucket: String, count: String = "1") -> String { "(\(bucket) << \(countBits)) + \(count)" }

    /// The bucket of an element.
    static func bucket(of element: String) -> String { "\(element) >> \(countBits)" }

    /// The count of an element.
    static func count(of element: String) -> String { "\(element) & \(Int64(1) << countBits - 1)" }
}

/// The small numbers that stand for model, provider, status and plan in the cells, and for whether they were
/// self-reported.
enum RollupDimensions {
    /// Facts `f` to their dimension `d`, NULL where it has no number yet.
    static let join: Query = """
        LEFT JOIN metering.rollup_dimension d
            ON d.model = f.model AND d.status = f.status
            AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
            AND d.is_self_reported = f.is_self_reported
        """

    /// Whether the column `dimension` is of usage that counts for all users together: self-reported usage is its user's
    /// alone.
    static func countsForAll(_ dimension: Query) -> Query {
        """
        \(dimension) <> ALL(ARRAY(
            SELECT s.dimension FROM metering.rollup_dimension s WHERE s.is_self_reported))
        """
    }

    /// Whether the column `dimension` is of events: rows of `api_logs` without an event have no plan.
    static func areOfEvents(_ dimension: Query) -> Query {
        """
        \(dimension) <> ALL(ARRAY(
            SELECT s.dimension FROM metering.rollup_dimension s WHERE s.plan IS NULL))
        """
    }

    /// Gives a number to what is new in `facts`.
    static func insertMissing(in facts: Query, _ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.rollup_dimension (model, provider, status, plan, is_self_reported)
            SELECT f.model, f.provider, f.status, f.plan, f.is_self_reported FROM \(facts) f
            EXCEPT
            SELECT d.model, d.provider, d.status, d.plan, d.is_self_reported FROM metering.rollup_dimension d
            ON CONFLICT DO NOTHING
            """)
    }
}

/// A table of rollups, and what its rows must be: made from the level below.
package enum RollupLevel: String, Sendable, CaseIterable {
    /// The 15-minute rollups of each user, from events and logs.
    case quarterHours = "quarters"
    /// The 15-minute rollups of all users, from those of each user, without what users reported themselves.
    case allUsers = "all_users"
    /// Day rollups, from the 15-minute rollups before the day boundary.
    case days

    var table: Query { self == .days ? "metering.rollup_day" : "metering.rollup_15m" }
    /// The column of the table that says when.
    var bucket: Query { self == .days ? "day" : "quarter" }
    /// A bucket's begin as `timestamptz`.
    func start(_ bucket: Query) -> Query {
        self == .days ? "(\(bucket)::timestamp AT TIME ZONE 'UTC')" : "metering.quarter_start(\(bucket))"
    }

    /// CTEs `expected` and `actual` of (user_id, bucket, dimension, measures): what cells must be and what they are.
    ///
    /// Users whom Laravel has deleted are left out where raw rows are compared: theirs went with them.
    func comparison(_ range: RollupRange, _ state: RollupState) -> Query {
        let range = self == .quarterHours ? range.unsealed(state) : range
        return """
            expected AS (
                \(expected(range, state))
            ), actual AS (
                SELECT t.user_id, t.\(bucket) AS bucket, t.dimension, \(RollupMeasures.columns)
                FROM \(table) t
                WHERE \(actual(range, state))
            )
            """
    }

    /// CTE `difference` of (user_id, bucket, dimension), the cells that differ, with both sides' row.
    static let joined: Query = """
        expected e FULL JOIN actual a
            ON a.user_id = e.user_id AND a.bucket = e.bucket AND a.dimension = e.dimension
        """

    private func expected(_ range: RollupRange, _ state: RollupState) -> Query {
        switch self {
        case .quarterHours:
            """
            SELECT f.user_id, metering.quarter_of(f.occurred_at) AS bucket, d.dimension, \(RollupMeasures.ofFacts)
            FROM (\(range.facts(state))) f \(RollupDimensions.join)
            WHERE f.user_id IN (SELECT id FROM public.users)
            GROUP BY 1, 2, 3
            """
        case .allUsers:
            """
            SELECT 0::bigint AS user_id, s.*, coalesce(h.histogram, '{}') AS histogram
            FROM (
                SELECT c.quarter AS bucket, c.dimension, \(RollupMeasures.sumsOfCells)
                FROM metering.rollup_15m c
                WHERE c.user_id <> 0 AND \(range.contains(quarter: "c.quarter"))
                  AND \(RollupDimensions.countsForAll("c.dimension"))
                GROUP BY 1, 2
            ) s LEFT JOIN (
                SELECT b.bucket, b.dimension,
                       array_agg(\(unsafeSQL: RollupHistogram.element(bucket: "b.latency", count: "b.count")))
                           AS histogram
                FROM (
                    SELECT c.quarter AS bucket, c.dimension, \(unsafeSQL: RollupHistogram.bucket(of: "e")) AS latency,
                           sum(\(unsafeSQL: RollupHistogram.count(of: "e")))::bigint AS count
                    FROM metering.rollup_15m c, unnest(c.histogram) e
                    WHERE c.user_id <> 0 AND \(range.contains(quarter: "c.quarter"))
                      AND \(RollupDimensions.countsForAll("c.dimension"))
                    GROUP BY 1, 2, 3
                ) b
                GROUP BY 1, 2
            ) h USING (bucket, dimension)
            """
        case .days:
            """
            SELECT c.user_id, metering.day_of(c.quarter) AS bucket, c.dimension, \(RollupMeasures.ofCells)
            FROM metering.rollup_15m c
            WHERE c.quarter < \(state.dayBoundary) AND \(range.contains(quarter: "c.quarter"))
              AND \(range.user == nil ? "true" : range.contains(user: "c.user_id"))
            GROUP BY 1, 2, 3
            """
        }
    }

    private func actual(_ range: RollupRange, _ state: RollupState) -> Query {
        switch self {
        case .quarterHours:
            """
            \(range.contains(quarter: "t.quarter")) AND \(range.contains(user: "t.user_id"))
            AND t.user_id IN (SELECT id FROM public.users)
            AND (t.quarter >= \(state.logsSealedBefore) OR \(RollupDimensions.areOfEvents("t.dimension")))
            """
        case .allUsers: "t.user_id = 0 AND \(range.contains(quarter: "t.quarter"))"
        case .days:
            """
            \(range.contains(day: "t.day")) AND \(range.user == nil ? "true" : range.contains(user: "t.user_id"))
            """
        }
    }
}
