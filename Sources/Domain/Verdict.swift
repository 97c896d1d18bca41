/// What became of one event. Every event of a body gets exactly one verdict, after COMMIT.
package enum Verdict: Sendable, Hashable {
    /// It is stored, with the log `logID`.
    case stored(logID: Int64)
    /// It was stored before, with the same billable facts.
    case duplicate(logID: Int64)
    /// Another event of the same key was stored before, with other billable facts.
    case conflict(logID: Int64)
    /// It is in quarantine.
    case quarantined(QuarantineReason)
}

/// Why an event is in quarantine and not stored.
package enum QuarantineReason: String, Sendable, Codable, CaseIterable {
    /// The body, or this part of it, is not JSON that can be read.
    case unreadable
    /// The event names no user.
    case missingIdentity = "missing_identity"
    /// No user holds the stated key, or held it at the time of the event.
    case unknownKey = "unknown_key"
    /// No user has the stated id.
    case unknownUser = "unknown_user"
    /// The identities that the event states belong to different users.
    case identityConflict = "identity_conflict"
    /// The proxy refused the caller's credentials.
    case denied
    /// The start is no time, is before the retention, or is more than 24 hours ahead.
    case implausibleTime = "implausible_time"
    /// The cost is negative, not finite, or beyond `numeric(20,12)`.
    case implausibleCost = "implausible_cost"
    /// Another open transaction holds the user's row.
    case userLocked = "user_locked"
    /// Laravel's tables refuse the log at present.
    case laravelUnavailable = "laravel_unavailable"
    /// PostgreSQL refuses this one event's values.
    case unstorable
    /// Another event of the same key was stored before, with other billable facts.
    case conflict
}

/// An event, or a part of a body, that cannot be stored as it is.
package struct Rejection: Error, Sendable, Hashable {
    /// Why it cannot be stored.
    package var reason: QuarantineReason
    /// One sentence for the operator: what is wrong, without any value of the event.
    package var detail: String
    /// The key under which the quarantine keeps it once, even if it is sent again.
    package var key: EventKey
    /// What could be read of the event. It is stored when the reason is gone.
    package var event: UsageEvent?
    /// The length, digest and shape of an unreadable part, without its texts.
    package var excerpt: String?

    /// A rejection for `reason`.
    package init(
        reason: QuarantineReason, detail: String, key: EventKey, event: UsageEvent? = nil, excerpt: String? = nil
    ) {
        self.reason = reason
        self.detail = detail
        self.key = key
        self.event = event
        self.excerpt = excerpt
    }
}

/// Which events of a spool a body holds. LiteLLM's workers number the events of a spool without gaps.
package struct SpoolPart: Sendable, Hashable {
    /// The spool's id, a UUID in lower case.
    package let spool: String
    /// The numbers of the body's events.
    package let numbers: ClosedRange<Int64>
    /// Events that the sender dropped for lack of room since it started.
    package let lost: Int64

    /// `count` events from `first` on; `nil` if `spool` is no UUID in lower case, or the numbers are out of range.
    package init?(spool: String, first: Int64, count: Int, lost: Int64) {
        let (last, overflow) = first.addingReportingOverflow(Int64(count) - 1)
        let groups = spool.split(separator: "-", omittingEmptySubsequences: false).map(\.utf8.count)
        let isHexadecimal = [UInt8](lowercaseHex: spool.replacing("-", with: "")) != nil
        guard isHexadecimal, groups == [8, 4, 4, 4, 12], first > 0, count > 0, !overflow, last < .max, lost >= 0
        else { return nil }
        self.spool = spool
        numbers = first...last
        self.lost = lost
    }
}
