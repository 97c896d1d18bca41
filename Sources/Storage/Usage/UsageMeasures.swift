import Postgres

/// What a cell of usage sums, in the order of its columns: one list for the fold, the days, verify and rebuild.
enum UsageMeasures {
    /// Whole numbers, which saturate at 2^63-1: one absurd event must not stop the fold.
    static let counts = [
        "requests", "unpriced", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "duration_ms",
    ]
    /// Exact decimals.
    static let amounts = ["cost", "ledger_cost"]
    static let names = counts + amounts

    /// The columns of a cell behind its key.
    static let columns = Query(unsafeSQL: (names + ["histogram"]).joined(separator: ", "))

    /// ``names`` of the cell `u`, as a report reads them: an amount that is NaN adds nothing until `rebuild` makes it
    /// again.
    static let read = Query(
        unsafeSQL: (counts.map { "u.\($0)" } + amounts.map { "metering.finite(u.\($0)) AS \($0)" })
            .joined(separator: ", "))

    /// Aggregates over the facts `f` of a cell.
    static let ofFacts: Query = "\(sumsOfFacts), \(histogramOfFacts)"

    /// Aggregates over the facts `f` of a cell, without its histogram.
    static let sumsOfFacts: Query = """
        count(*) AS requests, count(*) - count(f.cost) AS unpriced,
        \(unsafeSQL: saturated("sum(f.input_tokens)")) AS input_tokens, \(unsafeSQL: saturated("sum(f.output_tokens)")) AS output_tokens,
        \(unsafeSQL: saturated("sum(f.cached_tokens)")) AS cached_tokens,
        \(unsafeSQL: saturated("sum(f.reasoning_tokens)")) AS reasoning_tokens,
        \(unsafeSQL: saturated("sum(coalesce(f.duration_ms, 0))")) AS duration_ms,
        coalesce(sum(f.cost), 0) AS cost, sum(f.ledger_cost) AS ledger_cost
        """

    private static let histogramOfFacts: Query = """
        coalesce(array_agg((metering.bucket_of(f.duration_ms) << 40) + 1) FILTER (WHERE f.duration_ms IS NOT NULL)
                 || array_agg((metering.bucket_of(f.first_token_ms) + 2000 << 40) + 1)
                    FILTER (WHERE f.first_token_ms IS NOT NULL), '{}') AS histogram
        """

    /// Aggregates over the cells `c` of a coarser cell, without its histogram.
    static let sumsOfCells = Query(
        unsafeSQL: (counts.map { "\(saturated("sum(c.\($0))")) AS \($0)" }
            + amounts.map { "sum(metering.finite(c.\($0))) AS \($0)" }).joined(separator: ", "))

    /// Aggregates over the few cells `c` of a coarser cell.
    static let ofCells: Query = "\(sumsOfCells), coalesce(metering.joined(c.histogram), '{}') AS histogram"

    /// The columns of a new cell `c`, its histogram short enough to keep.
    static let kept = Query(unsafeSQL: names.map { "c.\($0)" }.joined(separator: ", ") + ", " + merged("c.histogram"))

    /// `SET` of an upsert that adds `excluded` to the cell `u` that is there.
    static let added = Query(
        unsafeSQL: (counts.map { "\($0) = \(saturated("u.\($0)::numeric + excluded.\($0)"))" }
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

    /// Elements up to which a histogram may hold a bucket several times: merging costs more than reading them.
    private static func merged(_ histogram: String) -> String {
        "CASE WHEN cardinality(\(histogram)) <= 64 THEN \(histogram) ELSE metering.merged(\(histogram)) END"
    }

    /// A `bigint` of `sum`, at its ends where it is beyond them: negative numbers of other writers may be large, too.
    static func saturated(_ sum: String) -> String {
        Query.saturated(sum)
    }
}
