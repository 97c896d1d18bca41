package import Domain
package import Postgres

/// What an operator asks first of how complete the figures are: which events wait, which are missing, and when the last
/// call was stored.
package struct IngestStatus: Sendable, Hashable {
    /// Open events in quarantine, at most ``Quarantine/countedAtMost``.
    package let quarantined: Int
    /// When the oldest of them arrived; `nil` without one.
    package let oldestQuarantined: Timestamp?
    /// Events that spools of the proxies say they sent, and that are not there.
    package let missingEvents: Int64
    /// Since when; `nil` where none is missing.
    package let missingSince: Timestamp?
    /// Events that proxies dropped for lack of room.
    package let lostEvents: Int64
    /// When the row of the last call was written; `nil` without a call.
    package let lastCallAt: Timestamp?

    /// Since when events of the proxies' spools are missing; `nil` where none is.
    ///
    /// - Throws: ``PostgresError``.
    package static func missingSince(_ connection: Connection) throws -> Timestamp? {
        try connection.query("SELECT \(microseconds: "min(s.gap_since)") FROM metering.spools s")[0]
            .decode(0, as: Int64?.self).map(Timestamp.init(microseconds:))
    }

    /// Reads it by indexes; the time does not grow with the logs.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(_ connection: Connection) throws -> IngestStatus {
        let reasons = QuarantineReason.allCases.map(\.rawValue)
        let row = try connection.query(
            """
            SELECT (SELECT count(*) FROM (
                        SELECT FROM metering.quarantine q WHERE q.resolved_at IS NULL LIMIT \(Quarantine.countedAtMost)
                    ) open),
                   (SELECT \(microseconds: "min(o.received_at)")
                    FROM unnest(\(reasons)::text[]) AS r (reason)
                    CROSS JOIN LATERAL (
                        SELECT q.received_at FROM metering.quarantine q
                        WHERE q.resolved_at IS NULL AND q.reason = r.reason ORDER BY q.received_at LIMIT 1
                    ) o),
                   (SELECT coalesce(sum(upper(g.range) - lower(g.range)), 0)::bigint
                    FROM metering.spools s, LATERAL unnest(s.gaps) AS g (range) WHERE s.gap_since IS NOT NULL),
                   (SELECT \(microseconds: "min(s.gap_since)") FROM metering.spools s),
                   (SELECT coalesce(sum(s.lost), 0)::bigint FROM metering.spools s),
                   (SELECT \(microseconds: "(l.updated_at AT TIME ZONE 'UTC')")
                    FROM public.api_logs l ORDER BY l.id DESC LIMIT 1)
            """)[0]
        let (open, oldest, missing, since, lost, last) = try row.decode(
            Int.self, Int64?.self, Int64.self, Int64?.self, Int64.self, Int64?.self)
        return IngestStatus(
            quarantined: open, oldestQuarantined: oldest.map(Timestamp.init(microseconds:)), missingEvents: missing,
            missingSince: since.map(Timestamp.init(microseconds:)), lostEvents: lost,
            lastCallAt: last.map(Timestamp.init(microseconds:)))
    }
}
