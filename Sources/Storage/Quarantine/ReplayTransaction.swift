package import Domain
import Postgres

/// One transaction that makes rows of quarantined events, through the same statements as a delivery.
struct ReplayTransaction: Sendable {
    /// Whether a replay may wait for another one, also of another process: only one of them works at a time.
    let waits: Bool
    /// Whether the keys of all users are looked at first. Entries that were woken need no look.
    let looksAtUsers: Bool
    /// Whether everything is undone at the end.
    let isDryRun: Bool

    /// What a dry run brings out of the transaction that is undone.
    private struct Undone: Error {
        let verdicts: [EventKey: Verdict]
    }

    /// The verdicts of the events that `select` finds, or `nil` where another replay is at work.
    ///
    /// Entries that have a row now are resolved in the same transaction, the others parked again or postponed.
    ///
    /// - Throws: ``PostgresError`` when nothing was committed; ``Installation/Mismatch``.
    func run(
        _ writer: EventWriter, _ select: @Sendable (Connection, Timestamp) throws -> [UsageEvent]
    ) async throws -> [EventKey: Verdict]? {
        do {
            return try await writer.commit { connection, isolatesFailures, now in
                guard try begin(connection) else { return nil }
                let verdicts = try replay(
                    try select(connection, now), connection, after: writer.memory, isolatesFailures: isolatesFailures,
                    now: now)
                if isDryRun { throw Undone(verdicts: verdicts) }
                return verdicts
            }
        } catch let undone as Undone {
            return undone.verdicts
        }
    }

    /// Takes the lock that replays and discards share; a live delivery never meets it.
    private func begin(_ connection: Connection) throws -> Bool {
        if waits {
            try Quarantine.lock(connection)
            return true
        }
        return try connection.query("SELECT pg_try_advisory_xact_lock(\(Quarantine.lockName))")[0].decode(0)
    }

    private func replay(
        _ events: [UsageEvent], _ connection: Connection, after memory: IDLine.Memory, isolatesFailures: Bool,
        now: Timestamp
    ) throws -> [EventKey: Verdict] {
        guard !events.isEmpty else { return [:] }
        let items = events.map { IngestItem(.success($0), isReplay: true) }
        let batch = IngestBatch(
            items, attributions: try attribute(items, connection, isolatesFailures: isolatesFailures, now: now))
        let settled = try batch.settle(
            connection, after: memory, lockedUsers: .quarantine, isolatesFailures: isolatesFailures, now: now)
        let verdicts = Dictionary(
            zip(events.map(\.key), settled).compactMap { key, verdict in verdict.map { (key, $0) } },
            uniquingKeysWith: { first, _ in first })
        try Self.resolve(verdicts.filter { $0.value.logID != nil }.keys.sorted(), connection, now: now)
        try Self.postpone(
            verdicts.compactMap { key, verdict in verdict.reason.map { (key, $0) } }, connection, now: now)
        return verdicts
    }

    private func attribute(
        _ items: [IngestItem], _ connection: Connection, isolatesFailures: Bool, now: Timestamp
    ) throws -> [EventAttribution.Outcome] {
        let attribute = { (connection: Connection) in
            if looksAtUsers { try KeyHistory.syncInTransaction(connection, now: now) }
            return try EventAttribution.attribute(items, connection)
        }
        guard isolatesFailures else { return try attribute(connection) }
        do {
            return try connection.savepoint(attribute)
        } catch let error as PostgresError where error.isRefusal {
            return items.map { .refused($0, error) }
        }
    }

    /// Entries whose event turned out to be stored already; those just stored were resolved with their rows. An entry that
    /// somebody is delivering again is left to the next replay: waiting for it could close a ring.
    private static func resolve(_ keys: [EventKey], _ connection: Connection, now: Timestamp) throws {
        guard !keys.isEmpty else { return }
        try connection.execute(
            """
            UPDATE metering.quarantine q
            SET resolved_at = \(now), resolution = 'duplicate', api_log_id = e.api_log_id
            FROM (
                SELECT e.event_key, \(IDLine.id(of: "e.api_log_id")) AS api_log_id FROM metering.events e
                WHERE e.event_key = ANY(\(keys.map(\.description))::uuid[])
                UNION ALL
                SELECT w.event_key, \(IDLine.id(of: "w.api_log_id")) FROM metering.withdrawn_events w
                WHERE w.event_key = ANY(\(keys.map(\.description))::uuid[])
            ) e
            WHERE q.id = e.event_key AND q.id IN (
                SELECT o.id FROM metering.quarantine o
                WHERE o.id = ANY(\(keys.map(\.description))::uuid[]) AND o.resolved_at IS NULL
                FOR UPDATE SKIP LOCKED)
            """)
    }

    /// Parks what waits for a key or a user. What Laravel's tables refuse is tried again later, and so is an event whose key
    /// appeared while this transaction judged it: after 1 s, 2 s, 4 s … up to an hour.
    private static func postpone(
        _ failed: [(EventKey, QuarantineReason)], _ connection: Connection, now: Timestamp
    ) throws {
        guard !failed.isEmpty else { return }
        try connection.execute(
            """
            UPDATE metering.quarantine q
            SET reason = f.reason, detail = CASE WHEN q.reason = f.reason THEN q.detail ELSE f.detail END,
                attempts = q.attempts + 1, user_id = coalesce(o.holder, q.user_id),
                next_attempt_at = CASE
                    WHEN f.reason = 'laravel_unavailable' OR f.reason = 'unknown_key' AND o.holder IS NOT NULL
                    THEN \(now) + least(2 ^ least(q.attempts, 12), 3600) * interval '1 second'
                    ELSE 'infinity' END
            FROM unnest(\(failed.map(\.0.description))::uuid[], \(failed.map(\.1.rawValue))::text[],
                        \(failed.map(\.1.explanation))::text[]) AS f (id, reason, detail),
                 LATERAL (SELECT o.id, metering.key_holder(o.key_hashes, o.occurred_at) AS holder
                          FROM metering.quarantine o WHERE o.id = f.id AND o.resolved_at IS NULL
                          FOR UPDATE SKIP LOCKED) o
            WHERE q.id = o.id
            """)
    }
}

extension Verdict {
    /// The row the event has, if any.
    package var logID: Int64? {
        switch self {
        case .stored(let logID), .duplicate(let logID), .conflict(let logID): logID
        case .quarantined: nil
        }
    }

    /// Why it has none.
    package var reason: QuarantineReason? {
        if case .quarantined(let reason) = self { reason } else { nil }
    }
}
