package import Domain
import Foundation
package import Postgres

/// Stores quarantined events when the reason is gone.
package struct QuarantineReplay: Sendable {
    /// Entries of one transaction.
    private static let batch = 1_000
    /// Entries by which a round finds out whether Laravel's tables take rows again. Each may be an error in
    /// PostgreSQL's log.
    private static let probes = 8
    /// After which a round begins no batch. A service rests as long between two rounds, and a replay never has more
    /// than one connection, so that deliveries go on.
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

    /// Tries what is due, batch after batch until nothing more becomes a row or the round is over, and returns how many
    /// entries are rows now.
    ///
    /// - Throws: ``PostgresError``.
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

    /// Replays what `select` finds as long as that makes rows; `batches` gives the size of the batch after so many
    /// rows.
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

extension QuarantineReplay {
    /// What a replay by an operator may do.
    package struct Options: Sendable, Hashable {
        /// Whether entries are tried that were answered 404 and have no key of their own. Their sender may have sent
        /// them again as other events: then they count twice.
        package var includesRefused = false
        /// Whether nothing is changed: the verdicts are those of a transaction that is undone.
        package var isDryRun = false

        package init(includesRefused: Bool = false, isDryRun: Bool = false) {
            self.includesRefused = includesRefused
            self.isDryRun = isDryRun
        }
    }

    /// What became of one entry.
    package enum Outcome: Sendable, Hashable {
        /// The verdict that a delivery of the event would get; `quarantined` leaves it in quarantine.
        case verdict(Verdict)
        /// Not tried: an event put aside for this reason never becomes a row.
        case neverARow
        /// Not tried: its sender saw a 404 and may have sent it again, and the options do not include such entries.
        case wasRefused
        /// Not tried: its facts were written by another version and cannot be read by this one.
        case unreadableFacts
        /// Not tried: stored or discarded before, or meanwhile.
        case resolvedBefore
    }

    /// Some entries and what became of them.
    package struct Page: Sendable {
        package let outcomes: [(item: QuarantinedItem, outcome: Outcome)]
        /// Where the next page begins; `nil` after the last.
        package let next: EventKey?
    }

    /// Tries the next entries that `filter` means at once, due or not, through the same path as a delivery, in one
    /// transaction.
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
            // Read again under the lock: what was resolved meanwhile is not tried.
            try Quarantine.list(filter, limit: items.count, connection).compactMap(\.event)
        } ?? [:]
    }
}

extension QuarantineReplay.Options {
    /// Why an entry is not tried, if it is not.
    fileprivate func obstacle(to item: QuarantinedItem) -> QuarantineReplay.Outcome? {
        if item.resolution != nil { return .resolvedBefore }
        if !item.reason.canBecomeRow { return .neverARow }
        if item.wasRefused, !includesRefused { return .wasRefused }
        return item.event == nil ? .unreadableFacts : nil
    }
}

/// One transaction that makes rows of quarantined events, through the same statements as a delivery.
struct ReplayTransaction: Sendable {
    /// Whether a replay may wait for another one, also of another process: only one of them works at a time.
    let waits: Bool
    /// Whether a key sync runs first. Scheduled entries need none.
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

    /// Entries whose event turned out to be stored already; those just stored were resolved with their rows. An entry
    /// that is being delivered again is left to the next replay, as waiting for it could deadlock.
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

    /// Parks what waits for a key or a user. What Laravel's tables refuse is tried again later, and so is an event
    /// whose key appeared while this transaction judged it: after 1 s, 2 s, 4 s … up to an hour.
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
