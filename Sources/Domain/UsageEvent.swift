internal import Crypto

/// One call of a language model, as the proxy reported it: the facts that become a row, without prompt, answer or key.
package struct UsageEvent: Sendable, Hashable, Codable {
    /// Which sender's shape the event had; the two are counted differently (`design.md` §4, Counters).
    package enum Shape: String, Sendable, Codable {
        /// LiteLLM's `StandardLoggingPayload` (`litellm.md` §4).
        case litellm
        /// The product brief's flat or nested payload.
        case documented
    }

    /// What befell the event on its way into a row, so that nobody takes a changed value for the sender's.
    package enum Flag: String, Sendable, Codable, CaseIterable {
        /// `api_logs.total_cost` is smaller than the cost.
        case costSaturated = "cost_saturated"
        /// The sender's start lay in our future; the arrival stands instead.
        case timeClamped = "time_clamped"
        /// A token count was negative, no number, or beyond 64 bits (here) or 32 bits (in `api_logs`).
        case tokensClamped = "tokens_clamped"
        /// The provider did not report the usage of a stream that was cut off; the proxy estimated it.
        case usageEstimated = "usage_estimated"
        /// A user or an administrator reported the event, and no proxy did (`POST /api/usage/log`).
        case selfReported = "self_reported"
        /// Nobody has the documented event's `user_id`; its `laravel_user_id` alone said whose it is.
        case attributedByID = "attributed_by_id"
        /// `api_logs.total_cost` is no cost of a call, such as NaN: another writer wrote it. The call is unpriced.
        case implausibleCost = "implausible_cost"
        /// `api_logs.created_at` is missing or no time of a call: another writer wrote it. The call counts in 1970.
        case implausibleTime = "implausible_time"
    }

    package var key: EventKey
    /// Whether the event has an idempotency key. One without counts at every delivery.
    package var isIdempotent: Bool
    package var shape: Shape
    package var identity: IdentityClaim
    package var status: EventStatus
    /// The model that the client asked for, 1 to 255 characters: LiteLLM's `model_group`, `metering.events.model_group`
    /// and Laravel's `api_logs.model`.
    package var modelGroup: String
    /// The deployment that served the call (`openai/gpt-4o`), at most 255 characters. LiteLLM and `metering.events` call it
    /// `model`.
    package var deployment: String?
    package var provider: String?
    package var callType: String?
    package var inputTokens: Int64
    package var outputTokens: Int64
    /// Part of ``inputTokens`` that the provider had cached.
    package var cachedTokens: Int64
    /// Part of ``outputTokens`` that was reasoning.
    package var reasoningTokens: Int64
    /// `nil` where the sender stated none.
    package var cost: Cost?
    package var occurredAt: Timestamp
    /// From start to end.
    package var durationMilliseconds: Int64?
    /// To the first token, of streams only.
    package var timeToFirstTokenMilliseconds: Int64?
    package var isStream: Bool
    package var isCacheHit: Bool
    package var errorCode: String?
    /// Scrubbed of key patterns, and as short as `METERING_ERROR_TEXT` says.
    package var errorMessage: String?
    /// The client's own word for its user: a label, never an identity.
    package var endUser: String?
    package var tags: [String]
    package var flags: [Flag]

    /// An event with the facts that every sender states, and those that only some do.
    package init(
        key: EventKey, isIdempotent: Bool, shape: Shape, identity: IdentityClaim, status: EventStatus,
        modelGroup: String, deployment: String? = nil, provider: String? = nil, callType: String? = nil,
        inputTokens: Int64 = 0, outputTokens: Int64 = 0, cachedTokens: Int64 = 0, reasoningTokens: Int64 = 0,
        cost: Cost? = nil, occurredAt: Timestamp, durationMilliseconds: Int64? = nil,
        timeToFirstTokenMilliseconds: Int64? = nil, isStream: Bool = false, isCacheHit: Bool = false,
        errorCode: String? = nil, errorMessage: String? = nil, endUser: String? = nil, tags: [String] = [],
        flags: [Flag] = []
    ) {
        self.key = key
        self.isIdempotent = isIdempotent
        self.shape = shape
        self.identity = identity
        self.status = status
        self.modelGroup = modelGroup
        self.deployment = deployment
        self.provider = provider
        self.callType = callType
        self.inputTokens = inputTokens
        self.outputTokens = outputTokens
        self.cachedTokens = cachedTokens
        self.reasoningTokens = reasoningTokens
        self.cost = cost
        self.occurredAt = occurredAt
        self.durationMilliseconds = durationMilliseconds
        self.timeToFirstTokenMilliseconds = timeToFirstTokenMilliseconds
        self.isStream = isStream
        self.isCacheHit = isCacheHit
        self.errorCode = errorCode
        self.errorMessage = errorMessage
        self.endUser = endUser
        self.tags = tags
        self.flags = flags
    }

    /// The names in the JSON of a quarantined event (`metering.quarantine.event`). They stay: stored entries have them, and
    /// an older program reads what a newer one wrote.
    private enum CodingKeys: String, CodingKey {
        case key, shape, identity, status, deployment, provider, callType, inputTokens, outputTokens, cachedTokens
        case reasoningTokens, cost, occurredAt, isStream, isCacheHit, errorCode, errorMessage, endUser, tags, flags
        case isIdempotent = "isNamed"
        case modelGroup = "model"
        case durationMilliseconds = "duration"
        case timeToFirstTokenMilliseconds = "timeToFirstToken"
    }
}

/// How a call ended, in Laravel's words (`api_logs_status_check`).
package enum EventStatus: String, Sendable, Codable, CaseIterable {
    case success
    case error
    case rateLimited = "rate_limited"
}

extension UsageEvent {
    /// Whether a cost of zero, or none, means that nobody knows the price: a call that a provider served and no cache
    /// answered (`design.md` §4). Free models are exempt, which only the database knows.
    package var isUnpricedUnlessFree: Bool {
        (cost?.isZero ?? true) && isServed && !isCacheHit
    }

    /// Whether a provider worked: for every success, whatever its tokens, as an image or a sound has none; for an error
    /// that has tokens, such as a stream that broke off; never where the caller was refused.
    private var isServed: Bool {
        switch status {
        case .success: true
        case .error: inputTokens > 0 || outputTokens > 0
        case .rateLimited: false
        }
    }
}

extension UsageEvent {
    /// The first 64 bits of a SHA-256 of what is billed: tokens, the cost's literal and the status.
    ///
    /// Tells a duplicate from a conflict: two events of one key with the same digest are the same call sent again
    /// (`design.md` §4, Verdicts).
    package var billableDigest: Int64 {
        let facts = "\(inputTokens)|\(outputTokens)|\(cost?.literal.text ?? "")|\(status.rawValue)"
        return Int64(bitPattern: SHA256.hash(of: facts).word(at: 0))
    }
}
