/// What became of one event; every event of a body gets exactly one, after COMMIT.
package enum Verdict: Sendable, Hashable {
    /// It is a new row of `api_logs`.
    case stored(logID: Int64)
    /// It was stored before, with the same billable facts.
    case duplicate(logID: Int64)
    /// Another event of the same identity was stored before, with other billable facts.
    case conflict(logID: Int64)
    /// It is kept aside.
    case quarantined(QuarantineReason)
}
