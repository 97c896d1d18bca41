import Domain
import Postgres

/// The items of one transaction on their way to verdicts.
struct IngestBatch: Sendable {
    /// An item and what is known of it before the transaction.
    private struct Member {
        let item: IngestItem
        let attribution: EventAttribution.Outcome
    }

    private let members: [Member]
    /// The first of each key; later ones of the same key are its twins.
    private let leads: [EventKey: Member]

    init(_ items: [IngestItem], attributions: [EventAttribution.Outcome]) {
        members = zip(items, attributions).map(Member.init)
        leads = Dictionary(members.map { ($0.item.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Stores what can be stored, recognises what was stored before, puts the rest aside, and returns the verdicts of all
    /// items in order; `nil` for an event whose user is locked and which is to be tried again.
    func settle(
        _ connection: Connection, after memory: IDLine.Memory, lockedUsers: EventWriter.LockedUsers,
        isolatesFailures: Bool, now: Timestamp
    ) throws -> [Verdict?] {
        var refused: [EventKey: Rejection] = [:]
        let events = leads.values.compactMap(\.attribution.event).sorted { $0.event.key < $1.event.key }
        let inserted =
            isolatesFailures
            ? try insertIsolating(events, connection, after: memory, now: now, refused: &refused)
            : try EventInsert(events, connection, after: memory, now: now)
        let unsettled = leads.filter { inserted.logIDs[$0.key] == nil }
        let lookup = try EventLookup(unsettled.values.compactMap(\.item.event?.key).sorted(), connection)
        var rejections: [EventKey: Rejection] = [:]
        for (key, lead) in unsettled {
            let rejection = refused[key] ?? lead.attribution.rejection ?? inserted.rejection(of: lead.attribution)
            if rejection?.reason == .userLocked, lockedUsers == .tryAgain, lead.item.mayWait { continue }
            rejections[key] = rejection
        }

        var entries: [QuarantineEntry] = []
        var seen: Set<EventKey> = []
        let verdicts = members.map { member -> Verdict? in
            let item = member.item
            let isFirst = seen.insert(item.key).inserted
            if let logID = inserted.logIDs[item.key] {
                if isFirst { return .stored(logID: logID) }
                return conflictOrDuplicate(member, logID: logID, entries: &entries)
            }
            if let event = item.event,
                let verdict = lookup.verdict(of: event, attributedTo: member.attribution.event?.userID)
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
        try QuarantineInsert.insert(entries, connection, isolates: isolatesFailures, now: now)
        return verdicts
    }

    /// The verdict of a twin of an event that this very batch stored.
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

    /// Halves the events until what is refused stands alone; each part in a savepoint.
    ///
    /// Events whose row vanished are left out first (`leavesOut`): mostly the others have theirs then.
    private func insertIsolating(
        _ events: [AttributedEvent], _ connection: Connection, after memory: IDLine.Memory, now: Timestamp,
        leavesOut: Bool = true, refused: inout [EventKey: Rejection]
    ) throws -> EventInsert {
        do {
            return try connection.savepoint { try EventInsert(events, $0, after: memory, now: now) }
        } catch let error as EventInsert.Unproven {
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
                return EventInsert()
            }
            return try insertHalves(events, connection, after: memory, now: now, refused: &refused)
        }
    }

    private func insertHalves(
        _ events: [AttributedEvent], _ connection: Connection, after memory: IDLine.Memory, now: Timestamp,
        refused: inout [EventKey: Rejection]
    ) throws -> EventInsert {
        let middle = events.count / 2
        var outcome = EventInsert()
        for half in [events[..<middle], events[middle...]] {
            outcome.formUnion(
                try insertIsolating(
                    Array(half), connection, after: memory, now: now, leavesOut: false, refused: &refused))
        }
        return outcome
    }
}
