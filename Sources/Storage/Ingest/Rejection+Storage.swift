import Domain
import Postgres

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

extension EventInsert {
    /// Why an event that has no row was left out; `nil` where its user is there.
    func rejection(of outcome: EventAttribution.Outcome) -> Rejection? {
        guard let attributed = outcome.event else { return nil }
        if missingUsers.contains(attributed.userID) { return Rejection(.unknownUser, of: attributed.event) }
        if lockedUsers.contains(attributed.userID) { return Rejection(.userLocked, of: attributed.event) }
        return nil
    }
}

extension PostgresError {
    /// Whether every row is probably refused alike, so that bisecting finds nothing: the table is gone, renamed, has a new
    /// mandatory column or a rule, or our role may not write it (SQLSTATE class 42, 23502, 0A000; PostgreSQL manual,
    /// appendix A). A row that is put aside with the others for nothing is stored by the first replay, which does
    /// bisect.
    var refusesEveryRow: Bool {
        guard let sqlState else { return false }
        return sqlState.hasPrefix("42") || sqlState == "23502" || sqlState == "0A000"
    }
}
