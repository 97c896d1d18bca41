import Postgres

/// How long requests took, in milliseconds, each within 2 % of the request that stands at that place when all are lined up
/// (`percentile_disc`); `nil` where no sender stated it.
package struct UsageLatency: Sendable, Hashable {
    /// One measure's places.
    package struct Percentiles: Sendable, Hashable {
        package var p50: Double
        package var p95: Double
        package var p99: Double
    }

    package var duration: Percentiles?
    /// To the first token, of streams.
    package var firstToken: Percentiles?

    package init() {}
}

extension UsageLatency {
    /// CTE `latency` of (bucket, key, six percentiles), from the CTE `cell`.
    static let query: Query = """
        element AS (
            SELECT e.bucket, e.key, e.element >> 40 AS element,
                   sum(e.sign * least(e.element & 1099511627775, 2147483647)::integer) AS count
            FROM (SELECT c.bucket, c.key, c.sign, unnest(c.histogram) AS element FROM cell c) e
            GROUP BY 1, 2, 3
        ), place AS (
            SELECT e.bucket, e.key, e.element, e.element >= 2000 AS is_first_token,
                   sum(e.count) OVER (PARTITION BY e.bucket, e.key, e.element >= 2000 ORDER BY e.element)
                   / sum(e.count) OVER (PARTITION BY e.bucket, e.key, e.element >= 2000) AS place
            FROM element e WHERE e.count > 0
        ), latency AS (
            SELECT p.bucket, p.key, \(percentiles(isFirstToken: false)), \(percentiles(isFirstToken: true))
            FROM place p GROUP BY 1, 2
        )
        """

    /// The columns of the CTE `latency`, and as many NULLs where it is not there.
    static let columns: Query = "l.d50, l.d95, l.d99, l.f50, l.f95, l.f99"
    static let noColumns: Query = "NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8"

    /// Reads ``columns`` from the column `first` on.
    init(_ row: Row, from first: Int) throws {
        duration = try Percentiles(row, from: first)
        firstToken = try Percentiles(row, from: first + 3)
    }

    private static func percentiles(isFirstToken: Bool) -> Query {
        let (letter, filter, offset) = isFirstToken ? ("f", "", " - 2000") : ("d", "NOT ", "")
        return Query(
            unsafeSQL: [50, 95, 99].map { percent in
                """
                metering.bucket_middle(min(p.element) FILTER (WHERE \(filter)p.is_first_token AND p.place >= 0.\(percent))\(offset))
                AS \(letter)\(percent)
                """
            }.joined(separator: ", "))
    }
}

extension UsageLatency.Percentiles {
    fileprivate init?(_ row: Row, from first: Int) throws {
        guard let p50 = try row.decode(first, as: Double?.self), let p95 = try row.decode(first + 1, as: Double?.self),
            let p99 = try row.decode(first + 2, as: Double?.self)
        else { return nil }
        self.init(p50: p50, p95: p95, p99: p99)
    }
}
