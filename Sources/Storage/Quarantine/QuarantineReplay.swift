package import Domain
import Foundation
package import Postgres

/// Makes rows of quarantined events whose trouble is gone (`design.md` §4).
package struct QuarantineReplay: Sendable {
    /// Entries of one transaction.
    private static let batch = 1_000
    /// Entries by which a round finds out whether Laravel's tables take rows again. Each may be an error in PostgreSQL's log.
    private static let probes = 8
    /// After which a round begins no batch. A service rests as long between two rounds, and a replay never has more than one
    /// connection, so that deliveries go on.
    private static let roundLimit = Duration.milliseconds(300)

    let pool: ConnectionPool
    let writer: EventWriter
    private let now: @Sendable () -> Timestamp
    private let retries = RetrySchedule()

    package init(pool: ConnectionPool, writer: EventWriter, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.writer = writer
        self.now = now
    }

    /// Tries what is due, batch after batch until nothing more becomes a row or the round is over, and returns how many entries
    /// are rows now.
    @discardableResult
    package func replay() async throws -> Int {
        let moment = now()
        try await pool.withConnection { try retries.schedule($0, now: moment) }
        let end = ContinuousClock.now + Self.roundLimit
        let scheduled = try await drain(until: end, batches: { _ in Self.batch }, Self.selectDue)
        // As soon as one of the probes is a row, the others probably can be too, however long they are postponed.
        let refused = try await drain(until: end, batches: { $0 == 0 ? Self.probes : Self.batch }, Self.selectRefused)
        return scheduled + refused
    }

    /// Replays what `select` finds as long as that makes rows; `batches` gives the size of the batch after so many rows.
    private func drain(
        until end: ContinuousClock.Instant, batches: (Int) -> Int,
        _ select: @escaping @Sendable (Connection, Timestamp, Int) throws -> [UsageEvent]
    ) async throws -> Int {
        let transaction = ReplayTransaction(waits: false, looksAtUsers: false, isDryRun: false)
        var rows = 0
        repeat {
            let size = batches(rows)
            let verdicts = try await transaction.run(writer) { try select($0, $1, size) } ?? [:]
            let new = verdicts.values.count { $0.logID != nil }
            rows += new
            if new == 0 { break }
        } while ContinuousClock.now < end
        return rows
    }

    /// Entries that were scheduled, and those to be tried again.
    private static func selectDue(_ connection: Connection, now: Timestamp, limit: Int) throws -> [UsageEvent] {
        try events(
            connection.query(
                """
                SELECT q.event::text FROM metering.quarantine q
                WHERE q.resolved_at IS NULL AND q.is_replayable AND q.next_attempt_at < 'infinity'
                  AND q.reason IN ('unknown_key', 'unknown_user', 'user_locked') AND q.next_attempt_at <= \(now)
                LIMIT \(limit)
                """))
    }

    /// The entries that Laravel's tables refused, due or not, in the order in which their turn comes.
    private static func selectRefused(_ connection: Connection, now: Timestamp, limit: Int) throws -> [UsageEvent] {
        try events(
            connection.query(
                """
                SELECT q.event::text FROM metering.quarantine q
                WHERE q.resolved_at IS NULL AND q.is_replayable AND q.next_attempt_at < 'infinity'
                  AND q.reason = 'laravel_unavailable'
                ORDER BY q.next_attempt_at LIMIT \(limit)
                """))
    }

    /// An entry that an older version wrote and this one cannot read holds up no other.
    private static func events(_ rows: [Row]) -> [UsageEvent] {
        let decoder = JSONDecoder()
        return rows.compactMap { row in
            try? decoder.decode(UsageEvent.self, from: Data(try row.decode(0, as: String.self).utf8))
        }
    }
}
