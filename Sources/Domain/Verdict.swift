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

/// Which events of a sender's spool a body holds: LiteLLM's workers number theirs without holes.
package struct SpoolPart: Sendable, Hashable {
    /// The spool's own id, in UUID form.
    package let spool: String
    package let numbers: ClosedRange<Int64>
    /// Events for which the sender had no room, since it started.
    package let lost: Int64

    /// `nil` where `spool` is no UUID in lower case, or the numbers are none.
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

/// A failure that a client may know of; everything else is an internal error and stays in the log.
package struct AppError: Error, Sendable, Hashable {
    /// The kinds of failure, each with one HTTP status (`HTTPSupport`).
    package enum Code: String, Sendable, CaseIterable {
        case invalid
        case unauthorized
        case forbidden
        case notFound = "not_found"
        case methodNotAllowed = "method_not_allowed"
        case conflict
        case tooLarge = "too_large"
        case tooManyRequests = "too_many_requests"
        case unavailable
        case timeout
        case `internal`
    }

    package var code: Code
    /// What is wrong and what to do, in our words; shown to the client.
    package var message: String
    /// Seconds after which the same request may succeed; sent as `Retry-After`.
    package var retryAfter: Int?

    package init(_ code: Code, _ message: String, retryAfter: Int? = nil) {
        self.code = code
        self.message = message
        self.retryAfter = retryAfter
    }
}
