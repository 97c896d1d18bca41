package import Domain
package import Postgres

/// What is known of one proxy's spool, and what of it is missing (``Spools``).
package struct SpoolStatus: Sendable, Hashable {
    /// Ranges that are named of one spool; a restore makes one, and more than a few are rare.
    private static let named = 100

    package let spool: String
    /// The highest number that was seen.
    package let highest: Int64
    /// Events for which the proxy had no room since it started.
    package let lost: Int64
    package let seenAt: Timestamp
    /// Since when something has been missing without a pause; `nil` where nothing is.
    package let missingSince: Timestamp?
    package let missingEvents: Int64
    /// How many ranges are missing, and the first of them.
    package let rangeCount: Int
    package let ranges: [ClosedRange<Int64>]

    /// Spools behind `spool` by their id, at most `limit`; with `onlyMissing` those that lack something.
    ///
    /// - Throws: `PostgresError`.
    package static func list(
        onlyMissing: Bool = false, after spool: String? = nil, limit: Int, _ connection: Connection
    ) throws -> [SpoolStatus] {
        let behind: Query = spool.map { "s.spool > \($0)::uuid" } ?? "true"
        let isMeant: Query = onlyMissing ? "s.gap_since IS NOT NULL" : "true"
        let rows = try connection.query(
            """
            SELECT s.spool::text, s.highest, s.lost, \(microseconds: "s.seen_at"), \(microseconds: "s.gap_since"),
                   g.events, g.ranges, g.firsts[:\(named)::integer], g.lasts[:\(named)::integer]
            FROM metering.spools s
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(upper(r.range) - lower(r.range)), 0)::bigint AS events, count(*) AS ranges,
                       coalesce(array_agg(lower(r.range) ORDER BY r.range), '{}') AS firsts,
                       coalesce(array_agg(upper(r.range) - 1 ORDER BY r.range), '{}') AS lasts
                FROM unnest(s.gaps) AS r (range)
            ) g
            WHERE \(behind) AND \(isMeant)
            ORDER BY s.spool LIMIT \(limit)
            """)
        return try rows.map(SpoolStatus.init)
    }

    private init(_ row: Row) throws {
        spool = try row.decode(0)
        highest = try row.decode(1)
        lost = try row.decode(2)
        seenAt = Timestamp(microseconds: try row.decode(3))
        missingSince = try row.decode(4, as: Int64?.self).map(Timestamp.init(microseconds:))
        missingEvents = try row.decode(5)
        rangeCount = try row.decode(6)
        ranges = zip(try row.decode(7, as: [Int64].self), try row.decode(8, as: [Int64].self)).map { $0...$1 }
    }
}
