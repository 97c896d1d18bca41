internal import Domain

/// An event of one of the two documented shapes: flat, or nested in `response` (`docs/api.md`).
struct DocumentedEvent {
    private let fields: EventFields
    private let arrival: Arrival
    private let key: EventKey
    private let isIdempotent: Bool
    private let identity: IdentityClaim
    private let secrets: [String]

    /// Reads the event's identity and its idempotency key: `idempotencyKey` of the header, which belongs to the only
    /// event of a request, else its own `event_id`. Without one, `generator` makes a random event key.
    init(
        fields: EventFields, arrival: Arrival, idempotencyKey: String?, generator: inout some RandomNumberGenerator
    ) {
        self.fields = fields
        self.arrival = arrival
        let name = idempotencyKey?.trimmed ?? ""
        if let name = name.isEmpty ? fields[.eventID].trimmedText : name {
            key = EventKey(idempotencyKey: name)
            isIdempotent = true
        } else {
            key = EventKey(arrival: arrival.at, using: &generator)
            isIdempotent = false
        }
        identity = IdentityClaim(ofDocumented: fields)
        // A number is no secret, and would be replaced in every message.
        secrets = identity.userID == nil ? identity.presentedKey.map { [$0.text] } ?? [] : []
    }

    /// The event, or why it cannot be stored.
    func result() -> Result<UsageEvent, Rejection> {
        let cost = StatedCost(fields.first(.cost, .responseCostUSD))
        let event = event(cost: cost.cost)
        if identity.isEmpty { return .failure(.missingIdentity(event)) }
        if cost == .implausible { return .failure(.implausibleCost(event)) }
        return .success(event)
    }

    private func event(cost: Cost?) -> UsageEvent {
        let tokens = tokens
        var event = UsageEvent(
            key: key, isIdempotent: isIdempotent, shape: .documented, identity: identity, status: status,
            modelGroup: model,
            inputTokens: tokens.input, outputTokens: tokens.output, cachedTokens: tokens.cached,
            reasoningTokens: tokens.reasoning, cost: cost, occurredAt: arrival.at,
            durationMilliseconds: EventTime.milliseconds(seconds: fields.first(.responseTime, .responseSeconds).number),
            errorCode: status == .success ? nil : errorCode,
            errorMessage: status == .success || arrival.errorText == .code ? nil : errorMessage)
        event.note(tokens, cost)
        return event
    }

    private var model: String {
        let stated = fields[.model].label(scrubbing: secrets) ?? fields[.responseModel].label(scrubbing: secrets)
        return stated ?? "unknown"
    }

    /// The tokens. A flat `usage` counts if it is stated, whatever it contains, as with PHP's `??`.
    private var tokens: TokenCounts {
        if fields[.usage].isStated {
            return TokenCounts(
                input: fields.first(.usagePrompt, .usageInput), output: fields.first(.usageCompletion, .usageOutput),
                cached: fields.first(.usageCachedTokens, .usageCacheRead), reasoning: fields[.usageReasoningTokens])
        }
        return TokenCounts(
            input: fields.first(.nestedPrompt, .nestedInput), output: fields.first(.nestedCompletion, .nestedOutput),
            cached: fields.first(.nestedCachedTokens, .nestedCacheRead), reasoning: fields[.nestedReasoningTokens])
    }

    /// The status. An error code 429 is a rate limit, whatever else is stated. Any other error is an error, whatever
    /// the status says.
    private var status: EventStatus {
        let stated = fields[.status].trimmedText?.lowercased()
        if stated == "rate_limited" || isTooManyRequests { return .rateLimited }
        if isError(fields[.error]) || isError(fields[.responseError]) { return .error }
        return ["error", "failure", "failed"].contains(stated ?? "") ? .error : .success
    }

    /// The fields in which senders write the code of an error.
    private static let errorCodes: [Field] = [
        .errorOwnCode, .errorItsCode, .errorStatusCode, .errorStatus, .responseErrorOwnCode, .responseErrorItsCode,
        .responseErrorStatusCode, .responseErrorStatus, .errorCode, .rootErrorCode, .rootStatusCode, .rootCode,
        .responseErrorCode, .responseStatusCode, .responseCode,
    ]
    /// Where HTTP's 429 may be written.
    private static let rateLimitCodes = errorCodes + [.status, .error, .responseError]
    private static let errorTexts: [Field] = [.errorMessage, .error, .responseErrorMessage, .responseError]

    /// Whether the error code is HTTP's 429: as a number, as its digits, or before the text of a Python exception.
    private var isTooManyRequests: Bool {
        if Self.rateLimitCodes.contains(where: { fields[$0].number?.whole == 429 }) { return true }
        return Self.errorTexts.contains { field in
            guard fields[field].isString, let text = fields[field].trimmedText else { return false }
            return text.hasPrefix("429:") || text.prefixMatch(of: /(?i)error code: 429\b/) != nil
        }
    }

    private var errorCode: String? {
        if isTooManyRequests { return "429" }
        return Self.errorCodes.lazy.compactMap { fields[$0].word(limit: 64, scrubbing: secrets) }.first
    }

    private func isError(_ value: JSONValue) -> Bool {
        value.isStated && !value.isFalse && !(value.isString && value.trimmedText == nil)
    }

    private var errorMessage: String? {
        Self.errorTexts.lazy.compactMap { fields[$0].message(scrubbing: secrets) }.first
    }
}
