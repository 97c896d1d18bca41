package import Domain
import Foundation
package import Postgres

/// Makes rows of quarantined events whose trouble is gone (`design.md` §4).
package struct QuarantineReplay: Sendable {
    /// Entries of one round.
    private static let batch = 500

    private let pool: ConnectionPool
    private let writer: EventWriter
    private let now: @Sendable () -> Timestamp

    package init(pool: ConnectionPool, writer: EventWriter, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.writer = writer
        self.now = now
    }

    /// Tries the entries that are due and may succeed, through the same path as a delivery, and returns how many of them
    /// are rows now. An entry that still has no row is tried again after 1 s, 2 s, 4 s … up to an hour.
    @discardableResult
    package func replay() async throws -> Int {
        let moment = now()
        let events = try await pool.withConnection { try Self.due($0, now: moment) }
        guard !events.isEmpty else { return 0 }
        let verdicts = try await writer.write(
            events.map { IngestItem(.success($0), isReplay: true) }, lockedUsers: .quarantine)
        let settled = zip(events, verdicts).filter { $0.1?.isSettled == true }.map(\.0.key)
        let failed = zip(events, verdicts).compactMap { event, verdict in
            if case .quarantined(let reason) = verdict { (event.key, reason) } else { nil }
        }
        try await pool.transaction { connection in
            try Self.resolve(settled, connection, now: moment)
            try Self.postpone(failed, connection, now: moment)
        }
        return settled.count
    }

    /// Entries of each kind whose trouble may be gone: a lock or Laravel's tables at any time, a key when it was first seen a
    /// short time ago, a user when the row is there.
    private static func due(_ connection: Connection, now: Timestamp) throws -> [UsageEvent] {
        let isDue: Query = "q.resolved_at IS NULL AND q.is_replayable AND q.next_attempt_at <= \(now)"
        let rows = try connection.query(
            """
            (SELECT q.event::text FROM metering.quarantine q
             WHERE q.reason IN ('user_locked', 'laravel_unavailable') AND \(isDue)
             ORDER BY q.next_attempt_at LIMIT \(batch))
            UNION ALL
            (SELECT q.event::text
             FROM metering.api_keys k JOIN metering.quarantine q ON q.key_hashes @> ARRAY[k.key_hash]
             WHERE k.seen_at > \(now) - interval '1 hour' AND q.reason = 'unknown_key' AND \(isDue) LIMIT \(batch))
            UNION ALL
            (SELECT q.event::text FROM metering.quarantine q JOIN public.users u ON u.id = q.user_id
             WHERE q.reason = 'unknown_user' AND \(isDue) LIMIT \(batch))
            """)
        let decoder = JSONDecoder()
        // An entry that an older version wrote and this one cannot read holds up no other.
        return rows.compactMap { row in
            try? decoder.decode(UsageEvent.self, from: Data(try row.decode(0, as: String.self).utf8))
        }
    }

    /// Entries whose event turned out to be stored already; those just stored were resolved with their rows.
    private static func resolve(_ keys: [EventKey], _ connection: Connection, now: Timestamp) throws {
        guard !keys.isEmpty else { return }
        try connection.execute(
            """
            UPDATE metering.quarantine q
            SET resolved_at = \(now), resolution = 'duplicate', api_log_id = e.api_log_id
            FROM metering.events e
            WHERE q.id = ANY(\(keys.map(\.description))::uuid[]) AND e.event_key = q.id AND q.resolved_at IS NULL
            """)
    }

    private static func postpone(
        _ failed: [(EventKey, QuarantineReason)], _ connection: Connection, now: Timestamp
    ) throws {
        guard !failed.isEmpty else { return }
        try connection.execute(
            """
            UPDATE metering.quarantine q
            SET reason = f.reason, attempts = q.attempts + 1,
                next_attempt_at = \(now) + least(2 ^ least(q.attempts, 12), 3600) * interval '1 second'
            FROM unnest(\(failed.map(\.0.description))::uuid[], \(failed.map(\.1.rawValue))::text[]) AS f (id, reason)
            WHERE q.id = f.id AND q.resolved_at IS NULL
            """)
    }
}

extension Verdict {
    /// Whether the event has a row.
    fileprivate var isSettled: Bool {
        switch self {
        case .stored, .duplicate, .conflict: true
        case .quarantined: false
        }
    }
}
