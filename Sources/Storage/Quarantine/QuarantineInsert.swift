package import Domain
import Foundation
import Metrics
package import Postgres

/// An item to be quarantined, with the values that a replay needs.
struct QuarantineEntry: Sendable {
    let rejection: Rejection
    let isReplayable: Bool

    /// The entry of `item`. How the item was delivered decides whether its sender sends it again.
    init(_ rejection: Rejection, of item: IngestItem) {
        self.rejection = rejection
        isReplayable =
            switch rejection.reason {
            case .userLocked, .laravelUnavailable: true
            case .unknownKey, .unknownUser: rejection.event?.isIdempotent == true || !item.isRefusedWhenUnknown
            default: false
            }
    }

    private init(_ rejection: Rejection, isReplayable: Bool) {
        self.rejection = rejection
        self.isReplayable = isReplayable
    }

    /// The entry without the sender's values, for an event that PostgreSQL cannot store.
    var withoutFacts: QuarantineEntry {
        QuarantineEntry(
            Rejection(reason: .unstorable, detail: QuarantineReason.unstorable.explanation, key: rejection.key),
            isReplayable: false)
    }
}

/// Inserts items into quarantine, each once however often it is delivered.
enum QuarantineInsert {
    /// The most denials that are stored one by one. With more, unknown callers could fill the disk.
    static let deniedEntries = 10_000

    /// Inserts `entries`. With `isolates`, an entry that PostgreSQL refuses is stored without its event and does not
    /// fail the others.
    static func insert(
        _ entries: [QuarantineEntry], _ connection: Connection, isolates: Bool, now: Timestamp
    ) throws {
        guard isolates else { return try insert(entries, connection, now: now) }
        for entry in entries {
            do {
                try connection.savepoint { try insert([entry], $0, now: now) }
            } catch let error as PostgresError where error.isRefusal {
                try insert([entry.withoutFacts], connection, now: now)
            }
        }
    }

    private static func insert(_ entries: [QuarantineEntry], _ connection: Connection, now: Timestamp) throws {
        guard !entries.isEmpty else { return }
        let denied = entries.filter { $0.rejection.reason == .denied }
        var kept = entries
        if !denied.isEmpty, try openDenials(connection) >= Self.deniedEntries {
            try count(denied, connection, now: now)
            kept = entries.filter { $0.rejection.reason != .denied }
        }
        try keep(unique(kept), connection, now: now)
    }

    /// One entry for each key, in key order, so that no deadlock of two processes is possible.
    private static func unique(_ entries: [QuarantineEntry]) -> [QuarantineEntry] {
        Dictionary(entries.map { ($0.rejection.key, $0) }, uniquingKeysWith: { first, _ in first }).values
            .sorted { $0.rejection.key < $1.rejection.key }
    }

    private static func openDenials(_ connection: Connection) throws -> Int {
        let rows = try connection.query(
            """
            SELECT count(*) FROM (
                SELECT FROM metering.quarantine
                WHERE reason = 'denied' AND resolved_at IS NULL LIMIT \(Self.deniedEntries)
            ) d
            """)
        return try rows.first?.decode(0, as: Int.self) ?? 0
    }

    private static func count(_ denied: [QuarantineEntry], _ connection: Connection, now: Timestamp) throws {
        let hashes = denied.map { $0.rejection.event?.identity.keyHashes.first?.bytes ?? [] }
        try connection.execute(
            """
            INSERT INTO metering.denied_calls (hour, key_hash, calls)
            SELECT date_trunc('hour', \(now) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', h.key_hash, count(*)
            FROM unnest(\(hashes)::bytea[]) AS h (key_hash)
            GROUP BY h.key_hash ORDER BY h.key_hash
            ON CONFLICT (hour, key_hash) DO UPDATE SET calls = denied_calls.calls + excluded.calls
            """)
    }

    /// Inserts entries, or counts another delivery. The newest reason counts: a former conflict may now be a locked
    /// user. A resolved entry stays resolved.
    ///
    /// An entry that waits for a key or a user is parked, without a time of a next attempt. If this statement sees that
    /// the key exists by now, the entry gets a time, because the arrival of the key may have come before the entry
    /// (``RetrySchedule``).
    private static func keep(_ entries: [QuarantineEntry], _ connection: Connection, now: Timestamp) throws {
        let encoder = JSONEncoder()
        let rejections = entries.map(\.rejection)
        let events = try rejections.map { rejection in
            try rejection.event.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
        }
        let hashes = rejections.map { rejection in
            rejection.event?.identity.keyHashes.map(\.hex).joined(separator: ",")
        }
        let users = rejections.map { $0.event?.identity.laravelUserID ?? $0.event?.identity.userID }
        try connection.execute(
            """
            INSERT INTO metering.quarantine AS q (
                id, reason, detail, event, excerpt, key_hashes, user_id, occurred_at, received_at, last_received_at,
                deliveries, is_replayable, attempts, next_attempt_at)
            SELECT i.id, i.reason, i.detail, i.event::jsonb, i.excerpt, t.key_hashes, coalesce(k.holder, i.user_id),
                   t.occurred_at, \(now), \(now), 1, i.is_replayable, 0,
                   CASE WHEN i.reason IN ('unknown_user', 'user_locked') OR i.reason = 'unknown_key'
                       AND k.holder IS NULL
                        THEN 'infinity' ELSE \(now) END
            FROM unnest(
                \(rejections.map(\.key.description))::uuid[], \(rejections.map(\.reason.rawValue))::text[],
                \(rejections.map(\.detail))::text[], \(events)::text[], \(rejections.map(\.excerpt))::text[],
                \(hashes)::text[], \(users)::bigint[],
                \(rejections.map { $0.event?.occurredAt.storable?.microseconds })::bigint[],
                \(entries.map(\.isReplayable))::boolean[]
            ) AS i (id, reason, detail, event, excerpt, key_hashes, user_id, occurred_us, is_replayable)
            CROSS JOIN LATERAL (
                SELECT ARRAY(SELECT decode(h, 'hex') FROM unnest(string_to_array(i.key_hashes, ',')) h) AS key_hashes,
                       'epoch'::timestamptz + i.occurred_us * interval '1 microsecond' AS occurred_at
            ) t
            -- A denied call has no user, whatever key it has.
            CROSS JOIN LATERAL (
                SELECT CASE WHEN i.reason <> 'denied' THEN metering.key_holder(t.key_hashes, t.occurred_at) END
                    AS holder
            ) k
            ORDER BY i.id
            ON CONFLICT (id) DO UPDATE
            SET deliveries = q.deliveries + 1, last_received_at = excluded.last_received_at,
                reason = CASE WHEN q.resolved_at IS NULL THEN excluded.reason ELSE q.reason END,
                detail = CASE WHEN q.resolved_at IS NULL THEN excluded.detail ELSE q.detail END,
                user_id = coalesce(excluded.user_id, q.user_id),
                is_replayable = q.is_replayable OR excluded.is_replayable,
                next_attempt_at = excluded.next_attempt_at
            """)
    }
}

/// The metrics of the quarantine.
package enum QuarantineGauges {
    /// Sets `metering_quarantine_open{reason}` and `metering_quarantine_oldest_seconds{reason}`; zero for a reason
    /// without entries.
    ///
    /// It reads an index over the open entries, which takes almost a second for a million. So call it at a bounded
    /// rate.
    ///
    /// - Throws: ``PostgresError``.
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
