package import Domain
import Postgres

/// One event of a body on its way to a verdict. A class, as it is handed on many times, and copying an event with all
/// its texts for each would cost more than parsing it.
package final class IngestItem: Sendable {
    package let result: Result<UsageEvent, Rejection>
    /// Whether its sender gets a 4xx if no user is found, as Laravel answers a single documented event. The sender
    /// sends such an event again. Without an idempotency key that is a new event, so a replay must not store the first.
    let isRefusedWhenUnknown: Bool
    /// Whether it comes from quarantine and not from a sender.
    let isReplay: Bool
    /// Whether it may be stored later than the others of its body. Not beside events without an idempotency key: when
    /// the later part fails, the whole body is sent again, and they would count twice.
    let mayWait: Bool

    package init(
        _ result: Result<UsageEvent, Rejection>, isRefusedWhenUnknown: Bool = false, isReplay: Bool = false,
        mayWait: Bool = true
    ) {
        self.result = result
        self.isRefusedWhenUnknown = isRefusedWhenUnknown
        self.isReplay = isReplay
        self.mayWait = mayWait
    }

    /// The same, to be stored with its whole body or not at all.
    var withoutWaiting: IngestItem {
        IngestItem(result, isRefusedWhenUnknown: isRefusedWhenUnknown, isReplay: isReplay, mayWait: false)
    }

    /// How much of the queue it takes: 1, and 1 for each KiB of texts that are kept.
    var weight: Int {
        switch result {
        case .success(let event): event.weight
        case .failure(let rejection): rejection.event?.weight ?? 1
        }
    }

    /// Whether sending it again is recognised; so is what could not be read, by its bytes.
    var isIdempotent: Bool {
        switch result {
        case .success(let event): event.isIdempotent
        case .failure(let rejection): rejection.event?.isIdempotent ?? true
        }
    }

    var key: EventKey {
        switch result {
        case .success(let event): event.key
        case .failure(let rejection): rejection.key
        }
    }

    /// The event, also where it was rejected with its facts.
    var event: UsageEvent? {
        switch result {
        case .success(let event): event
        case .failure(let rejection): rejection.event
        }
    }
}

extension UsageEvent {
    fileprivate var weight: Int {
        let texts = (errorMessage?.utf8.count ?? 0) + (endUser?.utf8.count ?? 0)
        return 1 + tags.reduce(texts) { $0 + $1.utf8.count } / 1024
    }
}

extension Rejection {
    /// The rejection of an event that could be read, in words for the operator.
    init(_ reason: QuarantineReason, of event: UsageEvent) {
        self.init(reason: reason, detail: reason.explanation, key: event.key, event: event)
    }

    /// PostgreSQL refused the row for another reason than being unavailable.
    init(_ error: PostgresError, of event: UsageEvent) {
        // Our values fit the tables as Laravel made them, so the tables have changed.
        let reason = QuarantineReason.laravelUnavailable
        let subject = [error.table, error.constraint].compactMap { $0 }.joined(separator: ", ")
        self.init(
            reason: reason,
            detail: "\(reason.explanation) SQLSTATE \(error.sqlState ?? "-")\(subject.isEmpty ? "" : " (\(subject))").",
            key: event.key, event: event)
    }

    /// A trigger or rule of `api_logs` removed the row of an event, or gave it another id or user.
    static func withoutRow(_ event: UsageEvent) -> Rejection {
        let reason = QuarantineReason.laravelUnavailable
        return Rejection(
            reason: reason,
            detail: "\(reason.explanation) A trigger or rule of api_logs removes the row or changes its id or user.",
            key: event.key, event: event)
    }

    /// An event whose key is taken by one with other billable facts: kept under a key of its own, for the operator.
    static func conflicting(_ event: UsageEvent) -> Rejection {
        let key = EventKey(high: event.key.high, low: event.key.low ^ UInt64(bitPattern: event.billableDigest))
        return Rejection(
            reason: .conflict, detail: QuarantineReason.conflict.explanation, key: key, event: event)
    }
}

extension EventStore.Outcome {
    /// Why an event that has no row was left out; `nil` where its user is there.
    func rejection(of outcome: EventAttribution.Outcome) -> Rejection? {
        guard let attributed = outcome.event else { return nil }
        if missingUsers.contains(attributed.userID) { return Rejection(.unknownUser, of: attributed.event) }
        if lockedUsers.contains(attributed.userID) { return Rejection(.userLocked, of: attributed.event) }
        return nil
    }
}

extension PostgresError {
    /// Whether every row is probably refused alike, so that bisecting finds nothing: the table is gone, renamed, has a
    /// new mandatory column or a rule, or our role may not write it (SQLSTATE class 42, 23502, 0A000; PostgreSQL
    /// manual, appendix A). A row that is put aside with the others for nothing is stored by the first replay, which
    /// does bisect.
    var refusesEveryRow: Bool {
        guard let sqlState else { return false }
        return sqlState.hasPrefix("42") || sqlState == "23502" || sqlState == "0A000"
    }
}
