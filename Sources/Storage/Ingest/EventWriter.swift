package import Domain
package import Postgres

/// Gives every item of a batch its verdict, and commits all of them in one transaction.
package struct EventWriter: Sendable {
    /// What to do with an event whose user is locked by another open transaction.
    package enum LockedUsers: Sendable {
        /// The event gets no verdict, and the caller tries again.
        case tryAgain
        /// The event is quarantined, and a replay stores it.
        case quarantine
    }

    /// How often the transaction of a batch runs, when its outcome is unknown or an event is withdrawn meanwhile.
    private static let attempts = 3

    private let pool: ConnectionPool
    private let attribution: EventAttribution
    private let now: @Sendable () -> Timestamp
    let memory = IDLine.Memory()

    /// A writer on `pool` with the clock `now`.
    package init(pool: ConnectionPool, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.now = now
        attribution = EventAttribution(pool: pool, now: now)
    }

    /// The verdicts of `items`, in their order, all durable; `nil` for an event to try again.
    ///
    /// - Throws: ``PostgresError`` when an event has no verdict, although others may be stored;
    ///   ``Installation/Mismatch``; ``AppError`` `.unavailable` when the ids of `api_logs` began again each time.
    package func write(_ items: [IngestItem], lockedUsers: LockedUsers) async throws -> [Verdict?] {
        let written = try await writeEach(items, lockedUsers: lockedUsers)
        if let failure = written.failure { throw failure }
        return written.verdicts
    }

    /// What became of a batch.
    struct Written {
        /// The verdicts of all items, in their order; `nil` for an event without one.
        var verdicts: [Verdict?]
        /// Why the events without a verdict have none; `nil` if they are to be tried again.
        var failure: (any Error)?
    }

    /// Like ``write(_:lockedUsers:)``, but events that are stored have a verdict even if others fail.
    ///
    /// Plain events are stored by one statement. The others, and those whose answer was lost, get their verdicts in a
    /// transaction of several statements.
    ///
    /// - Throws: ``PostgresError`` when nothing was stored.
    func writeEach(_ items: [IngestItem], lockedUsers: LockedUsers) async throws -> Written {
        var written = Written(verdicts: try await writeDirectly(items))
        let rest = items.indices.filter { written.verdicts[$0] == nil }
        guard !rest.isEmpty else { return written }
        do {
            let verdicts = try await writeInSteps(rest.map { items[$0] }, lockedUsers: lockedUsers)
            for (index, verdict) in zip(rest, verdicts) { written.verdicts[index] = verdict }
        } catch {
            written.failure = error
        }
        return written
    }

    /// The verdicts of the items that one statement could store; `nil` for the others.
    private func writeDirectly(_ items: [IngestItem]) async throws -> [Verdict?] {
        var seen: Set<EventKey> = []
        let events = items.filter { seen.insert($0.key).inserted }.compactMap(DirectEvent.init)
            .sorted { $0.event.key < $1.event.key }
        guard !events.isEmpty else { return Array(repeating: nil, count: items.count) }
        var logIDs: [EventKey: Int64] = [:]
        do {
            logIDs = try await pool.withConnection { connection in
                try DirectInsert.insert(events, after: memory, now: now(), on: connection)
            }
        } catch let error as PostgresError where error.sqlState == DirectInsert.idsBeganAgain {
            _ = try await pool.withConnection { try IDLine.look($0) }
        } catch let error as PostgresError where error.leavesOtherWay {}
        // A later item of the same key is a twin, which is compared with what is stored.
        return items.map { item in logIDs.removeValue(forKey: item.key).map { .stored(logID: $0) } }
    }

    /// The verdicts of `items` by a look-up of their users and a transaction of several statements.
    private func writeInSteps(_ items: [IngestItem], lockedUsers: LockedUsers) async throws -> [Verdict?] {
        let batch = IngestBatch(items, attributions: try await attributions(of: items))
        return try await commit { connection, isolatesFailures, now in
            try batch.store(
                connection, after: memory, lockedUsers: lockedUsers, isolatesFailures: isolatesFailures, now: now)
        }
    }

    /// The attribution of each item. If Laravel's `users` has another shape, all events are quarantined.
    private func attributions(of items: [IngestItem]) async throws -> [EventAttribution.Outcome] {
        do {
            return try await attribution.attribute(items)
        } catch let error as PostgresError where error.isRefusal {
            return items.map { .refused($0, error) }
        }
    }

    /// Runs `body` in one transaction, with the time at which it began.
    ///
    /// One bad event must not reject the others. When a set-based statement fails for another reason than an
    /// unavailable database, `body` runs in a second transaction with `isolatesFailures`, and bisects down to the one
    /// event.
    func commit<T: Sendable>(
        _ body: @Sendable (Connection, _ isolatesFailures: Bool, Timestamp) throws -> T
    ) async throws -> T {
        let now = now()
        do {
            return try await transaction { try body($0, false, now) }
        } catch let error as PostgresError where error.isRefusal {
            return try await transaction { try body($0, true, now) }
        } catch is EventStore.Unproven {
            return try await transaction { try body($0, true, now) }
        }
    }

    private func transaction<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        var attempt = 1
        while true {
            do {
                return try await pool.transaction { try body($0) }
            } catch let error as PostgresError where error.isUnknownOutcome && attempt < Self.attempts {
                // Every event has its key by now, even without an idempotency key. So the next attempt finds what the
                // lost COMMIT stored.
                attempt += 1
            } catch is EventStore.WithdrawnMeanwhile where attempt < Self.attempts {
                attempt += 1
            } catch let error as IDLine.BeganAgain {
                guard attempt < Self.attempts else { throw AppError(.unavailable, error.description, retryAfter: 1) }
                attempt += 1
                _ = try await pool.withConnection { try IDLine.look($0) }
            }
        }
    }
}

extension PostgresError {
    /// Whether PostgreSQL refused the statement for its content, so that a part of it may succeed.
    var isRefusal: Bool { sqlState != nil && !isTransient && sqlState != "57014" }

    /// Whether another statement may store the events: PostgreSQL refused this one, or its answer was lost.
    fileprivate var leavesOtherWay: Bool { kind == .connectionLost || (sqlState != nil && sqlState != "57014") }

    /// Whether a COMMIT was sent and its outcome is unknown.
    var isUnknownOutcome: Bool { if case .commitOutcomeUnknown = kind { true } else { false } }
}

/// The items of one transaction.
struct IngestBatch: Sendable {
    /// An item and its attribution.
    private struct Member {
        let item: IngestItem
        let attribution: EventAttribution.Outcome
    }

    private let members: [Member]
    /// The first item of each key. Later items of the same key are its twins.
    private let leads: [EventKey: Member]

    init(_ items: [IngestItem], attributions: [EventAttribution.Outcome]) {
        members = zip(items, attributions).map(Member.init)
        leads = Dictionary(members.map { ($0.item.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Stores the events that can be stored, finds those that were stored before, and quarantines the rest. Returns the
    /// verdicts of all items in order; `nil` for an event to try again because its user is locked.
    func store(
        _ connection: Connection, after memory: IDLine.Memory, lockedUsers: EventWriter.LockedUsers,
        isolatesFailures: Bool, now: Timestamp
    ) throws -> [Verdict?] {
        var refused: [EventKey: Rejection] = [:]
        let events = leads.values.compactMap(\.attribution.event).sorted { $0.event.key < $1.event.key }
        let inserted =
            isolatesFailures
            ? try insertIsolating(events, connection, after: memory, now: now, refused: &refused)
            : try EventStore.insert(events, after: memory, now: now, on: connection)
        let unsettled = leads.filter { inserted.logIDs[$0.key] == nil }
        let stored = try StoredEvents.find(
            unsettled.values.compactMap(\.item.event?.key).sorted(), on: connection)
        if inserted.logIDs.isEmpty, !stored.isEmpty { try connection.execute(Self.awaitStandby) }
        var rejections: [EventKey: Rejection] = [:]
        for (key, lead) in unsettled {
            let rejection = refused[key] ?? lead.attribution.rejection ?? inserted.rejection(of: lead.attribution)
            if rejection?.reason == .userLocked, lockedUsers == .tryAgain, lead.item.mayWait { continue }
            rejections[key] = rejection
        }
        let (verdicts, entries) = verdicts(logIDs: inserted.logIDs, stored: stored, rejections: rejections)
        try QuarantineInsert.insert(entries, connection, isolates: isolatesFailures, now: now)
        return verdicts
    }

    /// A record in the write-ahead log, so that this COMMIT waits until a synchronous standby has all before it.
    ///
    /// A transaction that only reads does not wait. After a crash of the primary, or a wait that was cut short, it sees
    /// events that no standby has, and would acknowledge them.
    private static let awaitStandby: Query = "SELECT pg_logical_emit_message(true, 'codexflow', '')"

    /// The verdicts of all items in order, and what goes to quarantine. `logIDs` are of the events that this batch
    /// stored, `stored` are the events from before, `rejections` the reasons of the others.
    private func verdicts(
        logIDs: [EventKey: Int64], stored: StoredEvents, rejections: [EventKey: Rejection]
    ) -> ([Verdict?], [QuarantineEntry]) {
        var entries: [QuarantineEntry] = []
        var seen: Set<EventKey> = []
        let verdicts = members.map { member -> Verdict? in
            let item = member.item
            let isFirst = seen.insert(item.key).inserted
            if let logID = logIDs[item.key] {
                if isFirst { return .stored(logID: logID) }
                return conflictOrDuplicate(member, logID: logID, entries: &entries)
            }
            if let event = item.event,
                let verdict = stored.verdict(of: event, attributedTo: member.attribution.event?.userID)
            {
                if case .conflict = verdict { entries.append(QuarantineEntry(.conflicting(event), of: item)) }
                return verdict
            }
            guard let rejection = rejections[item.key] else { return nil }
            if isFirst, !item.isReplay {
                entries.append(QuarantineEntry(rejection, of: item))
            } else if let event = item.event, event.billableDigest != rejection.event?.billableDigest {
                entries.append(QuarantineEntry(.conflicting(event), of: item))
            }
            return .quarantined(rejection.reason)
        }
        return (verdicts, entries)
    }

    /// The verdict of a twin of an event that this batch stored.
    private func conflictOrDuplicate(
        _ twin: Member, logID: Int64, entries: inout [QuarantineEntry]
    ) -> Verdict? {
        guard let event = twin.item.event, let lead = leads[twin.item.key],
            lead.item.event?.billableDigest != event.billableDigest
                || (event.key.isIdempotencyKey && twin.attribution.event?.userID != lead.attribution.event?.userID)
        else { return .duplicate(logID: logID) }
        entries.append(QuarantineEntry(.conflicting(event), of: twin.item))
        return .conflict(logID: logID)
    }

    /// Halves the events until a refused event is alone. Each part runs in a savepoint.
    ///
    /// Events whose log vanished are left out first (`leavesOut`). Mostly the logs of the others stay then.
    private func insertIsolating(
        _ events: [AttributedEvent], _ connection: Connection, after memory: IDLine.Memory, now: Timestamp,
        leavesOut: Bool = true, refused: inout [EventKey: Rejection]
    ) throws -> EventStore.Outcome {
        do {
            return try connection.savepoint { try EventStore.insert(events, after: memory, now: now, on: $0) }
        } catch let error as EventStore.Unproven {
            let isAll = error.keys.count == events.count
            guard events.count == 1 || (isAll ? !members.allSatisfy(\.item.isReplay) : leavesOut) else {
                return try insertHalves(events, connection, after: memory, now: now, refused: &refused)
            }
            for event in events where error.keys.contains(event.event.key) {
                refused[event.event.key] = .withoutRow(event.event)
            }
            let others = events.filter { !error.keys.contains($0.event.key) }
            return try insertIsolating(
                others, connection, after: memory, now: now, leavesOut: false, refused: &refused)
        } catch let error as PostgresError where error.isRefusal {
            if events.count == 1 || (error.refusesEveryRow && !members.allSatisfy(\.item.isReplay)) {
                for event in events { refused[event.event.key] = Rejection(error, of: event.event) }
                return EventStore.Outcome()
            }
            return try insertHalves(events, connection, after: memory, now: now, refused: &refused)
        }
    }

    private func insertHalves(
        _ events: [AttributedEvent], _ connection: Connection, after memory: IDLine.Memory, now: Timestamp,
        refused: inout [EventKey: Rejection]
    ) throws -> EventStore.Outcome {
        let middle = events.count / 2
        var outcome = EventStore.Outcome()
        for half in [events[..<middle], events[middle...]] {
            outcome.formUnion(
                try insertIsolating(
                    Array(half), connection, after: memory, now: now, leavesOut: false, refused: &refused))
        }
        return outcome
    }
}
