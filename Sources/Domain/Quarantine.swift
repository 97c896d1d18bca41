/// Why an event is kept aside instead of becoming a row.
package enum QuarantineReason: String, Sendable, Codable, CaseIterable {
    /// The body, or this part of it, is not JSON that can be read.
    case unreadable
    /// The event names nobody.
    case missingIdentity = "missing_identity"
    /// No user holds the stated key, or held it when the call was made.
    case unknownKey = "unknown_key"
    /// No user has the stated id.
    case unknownUser = "unknown_user"
    /// The identities that the event states belong to different users.
    case identityConflict = "identity_conflict"
    /// The proxy refused a stranger (`litellm.md` §5).
    case denied
    /// The start is no time, older than the retention, or more than 24 hours ahead.
    case implausibleTime = "implausible_time"
    /// The cost is negative, not finite, or beyond `numeric(20,12)`.
    case implausibleCost = "implausible_cost"
    /// Somebody's open transaction holds the user's row.
    case userLocked = "user_locked"
    /// Laravel's tables refuse the row as they are now.
    case laravelUnavailable = "laravel_unavailable"
    /// PostgreSQL refuses this one event's values.
    case unstorable
    /// Another event of the same identity was stored before, with other billable facts.
    case conflict
}

/// An event, or a part of a body, that cannot become a row as it stands.
package struct Rejection: Error, Sendable, Hashable {
    package var reason: QuarantineReason
    /// One sentence for the operator: what is wrong, without any value of the sender's.
    package var detail: String
    /// The key under which the rejection is kept once, however often it is sent again.
    package var key: EventKey
    /// The facts as far as they could be read; they become the row when the trouble is gone.
    package var event: UsageEvent?
    /// An unreadable part's length, digest and shape, without its texts.
    package var excerpt: String?

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
