package import Domain
import Metrics
package import Postgres

/// What came of each spool: how far, and which numbers are missing (`metering.spools`).
///
/// A spool is drained in order, so a gap means that something acknowledged is not here, such as after a restore of the
/// database to an earlier time.
package enum Spools {
    /// Gaps that a sender is told of at once; the others follow with its next bodies.
    private static let told = 20

    /// Notes that a part was stored, and returns the ranges that are missing.
    package static func record(
        _ part: SpoolPart, _ connection: Connection, now: Timestamp
    ) throws -> [ClosedRange<Int64>] {
        if let missing = try update(part, connection, now: now) { return missing }
        try connection.execute(
            """
            INSERT INTO metering.spools (spool, highest, gaps, lost, seen_at) VALUES (\(part.spool)::uuid, 0, '{}', 0, \(now))
            ON CONFLICT (spool) DO NOTHING
            """)
        return try update(part, connection, now: now) ?? []
    }

    /// `nil` for a spool that was never seen.
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
            ORDER BY 1 LIMIT \(told)
            """)
        guard !rows.isEmpty else { return nil }
        return try rows.compactMap { row in
            let (first, last) = try row.decode(Int64?.self, Int64?.self)
            guard let first, let last else { return nil }
            return first...last
        }
    }
}

/// What is missing of spools, for Prometheus.
package enum SpoolGauges {
    /// Sets `litellm_spool_missing_events` and `litellm_spool_lost_events`.
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
