internal import Crypto

/// What a proxy reported about one attempt to call a language model: the facts that are stored, without prompt, answer
/// and key.
package struct UsageEvent: Sendable, Hashable, Codable {
    /// The shape of the event. The two count differently toward a quota (``QuotaContribution``).
    package enum Shape: String, Sendable, Codable {
        /// LiteLLM's `StandardLoggingPayload` (`docs/litellm.md`).
        case litellm
        /// The flat or nested event of the API documentation (`docs/api.md`).
        case documented
    }

    /// Which of the stored values differ from those of the sender, and why.
    package enum Flag: String, Sendable, Codable, CaseIterable {
        /// `api_logs.total_cost` is smaller than the cost.
        case costSaturated = "cost_saturated"
        /// The start lay in our future. The arrival replaces it.
        case timeClamped = "time_clamped"
        /// A token count was negative, no number, or beyond 64 bits here or 32 bits in `api_logs`.
        case tokensClamped = "tokens_clamped"
        /// The provider did not report the usage of a stream that broke off. The proxy estimated it.
        case usageEstimated = "usage_estimated"
        /// A user or an administrator reported the event, not a proxy (`POST /api/usage/log`).
        case selfReported = "self_reported"
        /// No user has the documented event's `user_id`. Only its `laravel_user_id` named the user.
        case attributedByID = "attributed_by_id"
        /// `api_logs.total_cost` is no cost, such as NaN, as another writer wrote it. The event is unpriced.
        case implausibleCost = "implausible_cost"
        /// `api_logs.created_at` is missing or no time, as another writer wrote it. The event counts in 1970.
        case implausibleTime = "implausible_time"
    }

    /// The key under which it is stored once.
    package var key: EventKey
    /// Whether the event has an idempotency key. One without counts at every delivery.
    package var isIdempotent: Bool
    /// The shape in which it was sent.
    package var shape: Shape
    /// What it says about its user.
    package var identity: IdentityClaim
    /// How the call ended.
    package var status: EventStatus
    /// The model that the client asked for, 1 to 255 characters: LiteLLM's `model_group`, `metering.events.model_group`
    /// and Laravel's `api_logs.model`.
    package var modelGroup: String
    /// The deployment that served the call (`openai/gpt-4o`), at most 255 characters. LiteLLM and `metering.events`
    /// call it `model`.
    package var deployment: String?
    /// The provider that served the call, such as `openai`.
    package var provider: String?
    /// LiteLLM's kind of call, such as `acompletion`.
    package var callType: String?
    /// Tokens of the prompt.
    package var inputTokens: Int64
    /// Tokens of the answer.
    package var outputTokens: Int64
    /// Part of ``inputTokens`` that the provider had cached.
    package var cachedTokens: Int64
    /// Part of ``outputTokens`` that was reasoning.
    package var reasoningTokens: Int64
    /// The cost; `nil` if the sender stated none.
    package var cost: Cost?
    /// The start of the call.
    package var occurredAt: Timestamp
    /// Milliseconds from start to end.
    package var durationMilliseconds: Int64?
    /// Milliseconds to the first token, of streams only.
    package var timeToFirstTokenMilliseconds: Int64?
    /// Whether the answer was streamed.
    package var isStream: Bool
    /// Whether LiteLLM's cache answered.
    package var isCacheHit: Bool
    /// The code of the error, such as `429`.
    package var errorCode: String?
    /// The error text, without credentials and as short as `METERING_ERROR_TEXT` says.
    package var errorMessage: String?
    /// The client's own name for its user. It is a label and never an identity.
    package var endUser: String?
    /// The tags of the call.
    package var tags: [String]
    /// What is special about the stored values.
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

    /// The names in the JSON of a quarantined event (`metering.quarantine.event`). They stay: stored entries have them,
    /// and an older program reads what a newer one wrote.
    private enum CodingKeys: String, CodingKey {
        case key, shape, identity, status, deployment, provider, callType, inputTokens, outputTokens, cachedTokens
        case reasoningTokens, cost, occurredAt, isStream, isCacheHit, errorCode, errorMessage, endUser, tags, flags
        case isIdempotent = "isNamed"
        case modelGroup = "model"
        case durationMilliseconds = "duration"
        case timeToFirstTokenMilliseconds = "timeToFirstToken"
    }
}

/// How a call ended, in Laravel's words (the constraint `api_logs_status_check`).
package enum EventStatus: String, Sendable, Codable, CaseIterable {
    case success
    case error
    case rateLimited = "rate_limited"
}

extension UsageEvent {
    /// Whether a cost of zero, or none, means that the price is unknown: a provider served the call, and no cache did.
    /// Free models are exempt, which only the database knows.
    package var isUnpricedUnlessFree: Bool {
        (cost?.isZero ?? true) && isServed && !isCacheHit
    }

    /// Whether a provider worked. It did for every success, also without tokens, as an image has none. It did for an
    /// error with tokens, such as a stream that broke off. It did not for a refused caller.
    private var isServed: Bool {
        switch status {
        case .success: true
        case .error: inputTokens > 0 || outputTokens > 0
        case .rateLimited: false
        }
    }
}

extension UsageEvent {
    /// The first 64 bits of a SHA-256 of what is billed: tokens, the stated cost and the status.
    ///
    /// Two events of one key with the same digest are a duplicate, with another digest a conflict (``Verdict``).
    package var billableDigest: Int64 {
        let facts = "\(inputTokens)|\(outputTokens)|\(cost?.literal.text ?? "")|\(status.rawValue)"
        return Int64(bitPattern: SHA256.hash(of: facts).word(at: 0))
    }
}
