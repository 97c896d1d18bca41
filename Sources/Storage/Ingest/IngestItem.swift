package import Domain
import Postgres

/// One event of a body that will get a verdict. It is a class because it is passed on many times. Copying an event with
/// all its texts each time would cost more than parsing it.
package final class IngestItem: Sendable {
    /// The event, or why it was rejected.
    package let result: Result<UsageEvent, Rejection>
    /// Whether its sender gets a 4xx if no user is found, as Laravel answers a single documented event. The sender may
    /// send it again. Without an idempotency key that is a new event, so a replay must not store the first one.
    let isRefusedWhenUnknown: Bool
    /// Whether it comes from quarantine and not from a sender.
    let isReplay: Bool
    /// Whether it may be stored later than the others of its body. It must not if the body has events without an
    /// idempotency key: when the later part fails, the whole body is sent again, and those would count twice.
    let mayWait: Bool

    /// An item with the result of parsing one event.
    package init(
        _ result: Result<UsageEvent, Rejection>, isRefusedWhenUnknown: Bool = false, isReplay: Bool = false,
        mayWait: Bool = true
    ) {
        self.result = result
        self.isRefusedWhenUnknown = isRefusedWhenUnknown
        self.isReplay = isReplay
        self.mayWait = mayWait
    }

    /// A copy that is stored with its whole body or not at all.
    var withoutWaiting: IngestItem {
        IngestItem(result, isRefusedWhenUnknown: isRefusedWhenUnknown, isReplay: isReplay, mayWait: false)
    }

    /// Its weight in the queue: 1, and 1 more for each KiB of stored text.
    var weight: Int {
        switch result {
        case .success(let event): event.weight
        case .failure(let rejection): rejection.event?.weight ?? 1
        }
    }

    /// Whether a second delivery is recognised. An unreadable part is recognised by its bytes.
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

    /// The event, even if it was rejected with its facts.
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
    /// The rejection of an event that could be parsed.
    init(_ reason: QuarantineReason, of event: UsageEvent) {
        self.init(reason: reason, detail: reason.explanation, key: event.key, event: event)
    }

    /// The rejection of an event whose row PostgreSQL refused.
    init(_ error: PostgresError, of event: UsageEvent) {
        // Our values fit the tables that Laravel's migrations make, so the tables have changed.
        let reason = QuarantineReason.laravelUnavailable
        let subject = [error.table, error.constraint].compactMap { $0 }.joined(separator: ", ")
        self.init(
            reason: reason,
            detail: "\(reason.explanation) SQLSTATE \(error.sqlState ?? "-")\(subject.isEmpty ? "" : " (\(subject))").",
            key: event.key, event: event)
    }

    /// The rejection of an event whose log a trigger or rule removed, or gave another id or user.
    static func withoutRow(_ event: UsageEvent) -> Rejection {
        let reason = QuarantineReason.laravelUnavailable
        return Rejection(
            reason: reason,
            detail: "\(reason.explanation) A trigger or rule of api_logs removes the row or changes its id or user.",
            key: event.key, event: event)
    }

    /// The rejection of an event whose key belongs to an event with other billable facts. It gets a key of its own.
    static func conflicting(_ event: UsageEvent) -> Rejection {
        let key = EventKey(high: event.key.high, low: event.key.low ^ UInt64(bitPattern: event.billableDigest))
        return Rejection(
            reason: .conflict, detail: QuarantineReason.conflict.explanation, key: key, event: event)
    }
}

extension EventStore.Outcome {
    /// Why an event was not stored; `nil` if its user exists.
    func rejection(of outcome: EventAttribution.Outcome) -> Rejection? {
        guard let attributed = outcome.event else { return nil }
        if missingUsers.contains(attributed.userID) { return Rejection(.unknownUser, of: attributed.event) }
        if lockedUsers.contains(attributed.userID) { return Rejection(.userLocked, of: attributed.event) }
        return nil
    }
}

extension PostgresError {
    /// Whether PostgreSQL probably refuses every row, so that bisecting is useless: the table is gone, renamed, has a
    /// new mandatory column or a rule, or our role may not write it (SQLSTATE class 42, 23502, 0A000; PostgreSQL
    /// manual, appendix A). If some rows were fine, the first replay stores them, because it does bisect.
    var refusesEveryRow: Bool {
        guard let sqlState else { return false }
        return sqlState.hasPrefix("42") || sqlState == "23502" || sqlState == "0A000"
    }
}
