package import Domain
import Metrics
package import Postgres

/// The spools of LiteLLM's workers: the highest number seen of each, and the missing numbers (`metering.spools`). A
/// spool is sent in order. So a gap means that an acknowledged event is missing, for example because the database was
/// restored to an earlier time.
package enum Spools {
    /// The most gaps that one answer reports. The others follow with the next bodies.
    private static let reportedRanges = 20

    /// Records that a part was stored, and returns the missing ranges.
    ///
    /// - Throws: ``PostgresError``.
    package static func record(
        _ part: SpoolPart, _ connection: Connection, now: Timestamp
    ) throws -> [ClosedRange<Int64>] {
        if let missing = try update(part, connection, now: now) { return missing }
        try connection.execute(
            """
            INSERT INTO metering.spools (spool, highest, gaps, lost, seen_at)
            VALUES (\(part.spool)::uuid, 0, '{}', 0, \(now))
            ON CONFLICT (spool) DO NOTHING
            """)
        return try update(part, connection, now: now) ?? []
    }

    /// Updates a known spool; `nil` for one that was never seen.
    private static func update(
        _ part: SpoolPart, _ connection: Connection, now: Timestamp
    ) throws -> [ClosedRange<Int64>]? {
        let (first, last) = (part.numbers.lowerBound, part.numbers.upperBound)
        let rows = try connection.query(
            """
            WITH noted AS (
                UPDATE metering.spools s
                SET highest = greatest(s.highest, \(last)), gaps = n.gaps, lost = \(part.lost), seen_at = \(now),
                    gap_since = CASE WHEN isempty(n.gaps) THEN NULL ELSE coalesce(s.gap_since, \(now)) END
                FROM (
                    SELECT o.spool,
                           o.gaps + int8multirange(int8range(o.highest + 1, greatest(o.highest + 1, \(first))))
                               - int8multirange(int8range(\(first), \(last), '[]')) AS gaps
                    FROM metering.spools o WHERE o.spool = \(part.spool)::uuid FOR UPDATE
                ) n
                WHERE s.spool = n.spool
                RETURNING s.gaps
            )
            SELECT lower(g.range), upper(g.range) - 1
            FROM noted LEFT JOIN LATERAL unnest(noted.gaps) AS g (range) ON true
            ORDER BY 1 LIMIT \(reportedRanges)
            """)
        guard !rows.isEmpty else { return nil }
        return try rows.compactMap { row in
            let (first, last) = try row.decode(Int64?.self, Int64?.self)
            guard let first, let last else { return nil }
            return first...last
        }
    }
}

/// The metrics of missing events of spools.
package enum SpoolGauges {
    /// Sets `litellm_spool_missing_events` and `litellm_spool_lost_events`.
    ///
    /// - Throws: ``PostgresError``.
    package static func record(_ connection: Connection) throws {
        let rows = try connection.query(
            """
            SELECT coalesce(sum(g.events), 0)::bigint, (SELECT coalesce(sum(s.lost), 0)::bigint FROM metering.spools s)
            FROM (
                SELECT upper(r.range) - lower(r.range) AS events
                FROM metering.spools s, LATERAL unnest(s.gaps) AS r (range)
            ) g
            """)
        let (missing, lost) = try rows[0].decode(Int64.self, Int64.self)
        Gauge(label: "litellm_spool_missing_events").record(missing)
        Gauge(label: "litellm_spool_lost_events").record(lost)
    }
}

/// One spool and its missing events (``Spools``).
package struct SpoolStatus: Sendable, Hashable {
    /// The most missing ranges that are listed of one spool. A restore makes one; more than a few are rare.
    private static let named = 100

    /// The spool's id.
    package let spool: String
    /// The highest number that was seen.
    package let highest: Int64
    /// Events that the proxy dropped for lack of room since it started.
    package let lost: Int64
    /// The time at which it was last seen.
    package let seenAt: Timestamp
    /// The time since which events have been missing without a pause; `nil` if none is.
    package let missingSince: Timestamp?
    /// The number of missing events.
    package let missingEvents: Int64
    /// The number of missing ranges.
    package let rangeCount: Int
    /// The first of the missing ranges.
    package let ranges: [ClosedRange<Int64>]

    /// At most `limit` spools in the order of their ids, after `spool`. With `onlyMissing` only those with missing
    /// numbers.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(
        onlyMissing: Bool = false, after spool: String? = nil, limit: Int, _ connection: Connection
    ) throws -> [SpoolStatus] {
        let isAfter: Query = spool.map { "s.spool > \($0)::uuid" } ?? "true"
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
            WHERE \(isAfter) AND \(isMeant)
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
