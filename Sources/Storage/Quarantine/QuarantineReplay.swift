package import Domain
import Foundation
package import Postgres

/// Stores quarantined events whose reason is gone.
package struct QuarantineReplay: Sendable {
    /// Entries of one transaction.
    private static let batch = 1_000
    /// The number of entries by which a round tries whether Laravel's tables accept rows again. Each may cause an error
    /// in PostgreSQL's log.
    private static let probes = 8
    /// The time after which a round begins no further batch. A service pauses as long between two rounds, and a replay
    /// uses one connection, so that deliveries go on.
    private static let roundLimit = Duration.milliseconds(300)

    let pool: ConnectionPool
    let writer: EventWriter
    private let now: @Sendable () -> Timestamp
    private let retries = RetrySchedule()

    /// A replay on `pool` that stores with `writer`.
    package init(pool: ConnectionPool, writer: EventWriter, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.writer = writer
        self.now = now
    }

    /// Tries the due entries, batch after batch, until no more are stored or the round is over. Returns the number of
    /// entries that were stored.
    ///
    /// - Throws: ``PostgresError``.
    @discardableResult
    package func replay() async throws -> Int {
        let moment = now()
        try await pool.withConnection { try retries.schedule($0, now: moment) }
        let end = ContinuousClock.now + Self.roundLimit
        let scheduled = try await drain(until: end, batches: { _ in Self.batch }, Self.selectDue)
        // As soon as one of the probes is stored, the others probably can be too, however long they are postponed.
        let refused = try await drain(until: end, batches: { $0 == 0 ? Self.probes : Self.batch }, Self.selectRefused)
        return scheduled + refused
    }

    /// Replays the entries that `select` finds, as long as some are stored. `batches` gives the size of the next batch
    /// after so many stored entries.
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

    /// The entries that are due.
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

    /// The entries that Laravel's tables refused, due or not, in the order of their next attempt.
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

    /// The events of `rows`. An entry that an older version wrote and this one cannot read is left out.
    private static func events(_ rows: [Row]) -> [UsageEvent] {
        let decoder = JSONDecoder()
        return rows.compactMap { row in
            try? decoder.decode(UsageEvent.self, from: Data(try row.decode(0, as: String.self).utf8))
        }
    }
}

extension QuarantineReplay {
    /// The options of a replay by an operator.
    package struct Options: Sendable, Hashable {
        /// Whether to try entries that were answered 404 and have no idempotency key. If their sender has sent them
        /// again as other events, they count twice.
        package var includesRefused = false
        /// Whether to change nothing. The verdicts are those of a transaction that is rolled back.
        package var isDryRun = false

        /// These options.
        package init(includesRefused: Bool = false, isDryRun: Bool = false) {
            self.includesRefused = includesRefused
            self.isDryRun = isDryRun
        }
    }

    /// The result for one entry.
    package enum Outcome: Sendable, Hashable {
        /// The verdict, as for a delivery of the event. With `quarantined` it stays in quarantine.
        case verdict(Verdict)
        /// Not tried: an event with this reason never becomes a log.
        case neverARow
        /// Not tried: its sender was answered 404 and may have sent it again, and the options exclude such entries.
        case wasRefused
        /// Not tried: another version wrote its event, and this one cannot read it.
        case unreadableFacts
        /// Not tried: it was stored or discarded before, or meanwhile.
        case resolvedBefore
    }

    /// A page of entries and their results.
    package struct Page: Sendable {
        /// The entries, in order, with their results.
        package let outcomes: [(item: QuarantinedItem, outcome: Outcome)]
        /// The cursor of the next page; `nil` on the last one.
        package let next: EventKey?
    }

    /// Tries the next entries that `filter` selects, due or not, in one transaction and by the statements of a
    /// delivery.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is no entry `cursor`; ``PostgresError``;
    ///   ``Installation/Mismatch``.
    package func replay(
        _ filter: QuarantineFilter, after cursor: EventKey? = nil, limit: Int = 1_000, options: Options
    ) async throws -> Page {
        let items = try await pool.withConnection { try Quarantine.list(filter, after: cursor, limit: limit, $0) }
        let tried = items.filter { options.obstacle(to: $0) == nil }
        let verdicts = try await verdicts(of: tried, isDryRun: options.isDryRun)
        return Page(
            outcomes: items.map { item in
                (item, options.obstacle(to: item) ?? verdicts[item.id].map(Outcome.verdict) ?? .resolvedBefore)
            },
            next: items.count < limit ? nil : items.last?.id)
    }

    private func verdicts(of items: [QuarantinedItem], isDryRun: Bool) async throws -> [EventKey: Verdict] {
        guard !items.isEmpty else { return [:] }
        let filter = QuarantineFilter(ids: items.map(\.id))
        let transaction = ReplayTransaction(waits: true, looksAtUsers: true, isDryRun: isDryRun)
        return try await transaction.run(writer) { connection, _ in
            // They are read again under the lock, because some may have been resolved meanwhile.
            try Quarantine.list(filter, limit: items.count, connection).compactMap(\.event)
        } ?? [:]
    }
}

extension QuarantineReplay.Options {
    /// Why an entry is not tried; `nil` if it is.
    fileprivate func obstacle(to item: QuarantinedItem) -> QuarantineReplay.Outcome? {
        if item.resolution != nil { return .resolvedBefore }
        if !item.reason.canBecomeRow { return .neverARow }
        if item.wasRefused, !includesRefused { return .wasRefused }
        return item.event == nil ? .unreadableFacts : nil
    }
}

/// One transaction that stores quarantined events by the statements of a delivery.
struct ReplayTransaction: Sendable {
    /// Whether it waits for a running replay, also of another process. Only one works at a time.
    let waits: Bool
    /// Whether a key sync runs first. Scheduled entries need none.
    let looksAtUsers: Bool
    /// Whether everything is rolled back at the end.
    let isDryRun: Bool

    /// The verdicts of a dry run, thrown out of the transaction that is rolled back.
    private struct Undone: Error {
        let verdicts: [EventKey: Verdict]
    }

    /// Stores the events that `select` finds and returns their verdicts; `nil` if another replay is at work.
    ///
    /// Entries that have a log now are resolved in the same transaction. The others are parked again or postponed.
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

    /// Takes the lock of replays and discards. A delivery never takes it.
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
        let results = try batch.store(
            connection, after: memory, lockedUsers: .quarantine, isolatesFailures: isolatesFailures, now: now)
        let verdicts = Dictionary(
            zip(events.map(\.key), results).compactMap { key, verdict in verdict.map { (key, $0) } },
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

    /// Resolves the entries whose event was stored before. Those just stored were resolved by the insert. An entry that
    /// is being delivered again is left to the next replay, because waiting for it could deadlock.
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

    /// Parks entries that wait for a key or a user. Entries that Laravel's tables refuse are tried again after 1 s, 2
    /// s, 4 s … up to an hour. So is an event whose key appeared during this transaction.
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
    /// The id of the event's log; `nil` without one.
    package var logID: Int64? {
        switch self {
        case .stored(let logID), .duplicate(let logID), .conflict(let logID): logID
        case .quarantined: nil
        }
    }

    /// Why it has no log.
    package var reason: QuarantineReason? {
        if case .quarantined(let reason) = self { reason } else { nil }
    }
}
