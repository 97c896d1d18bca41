package import Domain
import Metrics
package import Postgres

/// How much is in quarantine, for Prometheus.
package enum QuarantineGauges {
    /// Sets `metering_quarantine_open{reason}` and `metering_quarantine_oldest_seconds{reason}`, to zero where there is none.
    ///
    /// Reads an index over the open entries, most of a second for a million: call it at a bounded rate.
    package static func record(_ connection: Connection, now: Timestamp) throws {
        let summary = try Quarantine.backlog(connection)
        for reason in QuarantineReason.allCases {
            let backlog = summary[reason]
            let age = backlog.map { Double(now.microseconds - $0.oldest.microseconds) / 1_000_000 } ?? 0
            let dimensions = [("reason", reason.rawValue)]
            Gauge(label: "metering_quarantine_open", dimensions: dimensions).record(backlog?.entries ?? 0)
            Gauge(label: "metering_quarantine_oldest_seconds", dimensions: dimensions).record(max(age, 0))
        }
    }
}

extension Quarantine {
    /// The open entries of one reason.
    struct Backlog: Sendable, Hashable {
        let entries: Int
        let oldest: Timestamp
    }

    static func backlog(_ connection: Connection) throws -> [QuarantineReason: Backlog] {
        let rows = try connection.query(
            """
            SELECT q.reason, count(*), \(microseconds: "min(q.received_at)")
            FROM metering.quarantine q WHERE q.resolved_at IS NULL GROUP BY q.reason
            """)
        return try rows.reduce(into: [:]) { backlog, row in
            let (reason, entries, oldest) = try row.decode(String.self, Int.self, Int64.self)
            guard let reason = QuarantineReason(rawValue: reason) else { return }
            backlog[reason] = Backlog(entries: entries, oldest: Timestamp(microseconds: oldest))
        }
    }
}
