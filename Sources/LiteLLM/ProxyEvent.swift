internal import Crypto
internal import Domain

/// An event as LiteLLM's proxy logs it, a `StandardLoggingPayload` (`docs/litellm.md`).
struct ProxyEvent {
    private let fields: EventFields
    private let arrival: Arrival
    private let identity: IdentityClaim
    private let secrets: [String]
    private let errorCode: String?
    private let isFailure: Bool

    /// Whether an object is such an event: it has members that only LiteLLM writes.
    static func recognizes(_ fields: EventFields) -> Bool {
        [.startTime, .callID, .callType, .keyHash].contains { fields[$0].exists }
    }

    init(fields: EventFields, arrival: Arrival) {
        self.fields = fields
        self.arrival = arrival
        identity = IdentityClaim(ofProxy: fields)
        secrets = identity.presentedKey.map { [$0.text] } ?? []
        errorCode = fields[.errorCode].word(limit: 64, scrubbing: secrets)
        isFailure = ["failure", "failed", "error"].contains(fields[.status].trimmedText)
    }

    /// The event, or why it cannot be stored. A missing identity is reported before an implausible time, and that
    /// before an implausible cost.
    func result() -> Result<UsageEvent, Rejection> {
        let start = fields[.startTime].number
        let time = EventTime(start, arrival: arrival)
        let cost = StatedCost(fields[.responseCost])
        let event = event(start: start, time: time, cost: cost.cost)
        if isDenial { return .failure(.denied(event, presenting: fields[.keyHash].trimmedText)) }
        if identity.isEmpty { return .failure(.missingIdentity(event)) }
        if case .implausible = time { return .failure(.implausibleTime(event)) }
        if cost == .implausible { return .failure(.implausibleCost(event)) }
        return .success(event)
    }

    /// A refusal by `custom_auth`. Its key hash proves nothing, as the caller chose it.
    private var isDenial: Bool {
        let metadata = fields[.keyMetadata]
        return isFailure && (errorCode == "401" || errorCode == "403") && fields[.keyUserID].trimmedText == nil
            && (!metadata.isStated || metadata.isEmptyContainer)
    }

    private func event(start: DecimalLiteral?, time: EventTime, cost: Cost?) -> UsageEvent {
        let tokens = TokenCounts(
            input: fields[.promptTokens], output: fields[.completionTokens],
            cached: fields.first(.proxyCachedTokens, .proxyCacheRead), reasoning: fields[.proxyReasoningTokens])
        let isStream = fields[.stream].isTrue
        let firstToken = isStream ? fields[.firstTokenTime].number : nil
        let deployment = fields[.model].label(scrubbing: secrets)
        var event = UsageEvent(
            key: key(start: start), isIdempotent: true, shape: .litellm, identity: identity, status: status,
            modelGroup: fields[.modelGroup].label(scrubbing: secrets) ?? deployment ?? "unknown",
            deployment: deployment,
            provider: fields[.provider].label(scrubbing: secrets),
            callType: fields[.callType].label(scrubbing: secrets),
            inputTokens: tokens.input, outputTokens: tokens.output, cachedTokens: tokens.cached,
            reasoningTokens: tokens.reasoning, cost: cost, occurredAt: arrival.at,
            durationMilliseconds: EventTime.milliseconds(from: start, to: fields[.endTime].number),
            timeToFirstTokenMilliseconds: EventTime.milliseconds(from: start, to: firstToken), isStream: isStream,
            isCacheHit: fields[.cacheHit].isTrue, errorCode: errorCode, errorMessage: isFailure ? errorMessage : nil,
            endUser: fields[.endUser].label(scrubbing: secrets), tags: fields[.tags].labels(scrubbing: secrets))
        event.note(time)
        event.note(tokens, cost)
        if fields[.usageEstimated].isTrue { event.flags.append(.usageEstimated) }
        return event
    }

    private var status: EventStatus {
        guard isFailure else { return .success }
        return errorCode == "429" ? .rateLimited : .error
    }

    private var errorMessage: String? {
        let text = [Field.errorDescription, .errorText, .errorMessage, .error].lazy
            .compactMap { fields[$0].message(scrubbing: secrets) }.first
        let name = [fields[.errorClass].word(limit: 100, scrubbing: secrets), errorCode].compactMap(\.self).joined(
            separator: " ")
        return arrival.errorText.kept(of: text, name: name.isEmpty ? nil : name)
    }

    /// LiteLLM has no id that is unique (`docs/litellm.md`), so the key is made from four fields.
    private func key(start: DecimalLiteral?) -> EventKey {
        var names: [UInt8] = []
        for field in [Field.callID, .id, .status, .startTime] {
            names += (fields[field].text ?? "").utf8
            names.append(0)
        }
        let digest = names.withUnsafeBytes { SHA256.hash(of: $0) }
        return EventKey(milliseconds: milliseconds(start), digest: digest)
    }

    private func milliseconds(_ start: DecimalLiteral?) -> Int64 {
        guard let start, !start.isBelowZero else { return 0 }
        return start.scaled(by: 3, .towardZero).map(Int64.init(clamping:)) ?? .max
    }
}
