internal import Domain

extension IdentityClaim {
    /// The caller's identity as the proxy found it (`docs/litellm.md`). Nothing that the caller states about itself is
    /// used.
    init(ofProxy fields: EventFields) {
        self.init(
            laravelUserID: fields[.keyLaravelUserID].positiveInteger, userID: fields[.keyUserID].positiveInteger)
        guard let key = fields[.keyHash].trimmedText else { return }
        keyHashes = [KeyHash(hex: key), KeyHash(of: key)].compactMap(\.self)
        presentedKey = PresentedKey(key)
    }

    /// `user_id`, a key or a number, else the one in `metadata`. A value that PHP takes for false names no user, as in
    /// Laravel (`docs/laravel.md`).
    init(ofDocumented fields: EventFields) {
        self.init(laravelUserID: fields[.laravelUserID].positiveInteger)
        guard let value = [fields[.userID], fields[.metadataUserID]].first(where: { !$0.isFalsy }) else { return }
        guard let key = value.trimmedText else {
            keyHashes = [KeyHash(of: value.literal)]
            return
        }
        keyHashes = [KeyHash(of: key)]
        presentedKey = PresentedKey(key)
        userID = value.positiveInteger
        isKeyOptional = userID != nil
    }
}

extension JSONValue {
    /// Whether PHP counts it as false, as Laravel does with `user_id`.
    fileprivate var isFalsy: Bool {
        guard isStated, !isFalse, !isEmptyContainer else { return true }
        if isString { return ["", "0"].contains(trimmedText ?? "") }
        return number?.isZero ?? false
    }
}

/// When a call began, from the digits of its epoch seconds as they are written.
enum EventTime: Hashable {
    case stated(Timestamp)
    /// At most 24 hours in our future, as a clock is wrong. The arrival replaces it.
    case ahead
    /// No time, before the retention, or further ahead. With the time if it is one.
    case implausible(Timestamp?)

    init(_ start: DecimalLiteral?, arrival: Arrival) {
        guard let time = start?.scaled(by: 6, .towardZero).flatMap(Int64.init(exactly:)).map(Timestamp.init) else {
            self = .implausible(nil)
            return
        }
        if time < arrival.at.advanced(by: .zero - arrival.retention) || time > arrival.at.advanced(by: .seconds(86_400))
        {
            self = .implausible(time)
        } else {
            self = time > arrival.at ? .ahead : .stated(time)
        }
    }

    /// Milliseconds from `start` to `end`, rounded half up and not below 0; `nil` if one is missing.
    static func milliseconds(from start: DecimalLiteral?, to end: DecimalLiteral?) -> Int64? {
        guard let start = start?.scaled(by: 18, .towardZero), let end = end?.scaled(by: 18, .towardZero) else {
            return nil
        }
        let millisecond: Int128 = 1_000_000_000_000_000
        return clamped((max(end - start, 0) + millisecond / 2) / millisecond)
    }

    /// Milliseconds of a number of seconds, as above.
    static func milliseconds(seconds: DecimalLiteral?) -> Int64? {
        guard let seconds else { return nil }
        return seconds.isBelowZero ? 0 : seconds.scaled(by: 3).map(clamped) ?? longest
    }

    /// What `api_logs.response_time_ms` holds.
    private static let longest = Int64(Int32.max)

    private static func clamped(_ milliseconds: Int128) -> Int64 {
        Int64(min(milliseconds, Int128(longest)))
    }
}

/// The tokens of one call, within 0 … 2^63-1.
struct TokenCounts {
    let input: Int64
    let output: Int64
    let cached: Int64
    let reasoning: Int64
    /// Whether a count is not what the sender wrote, here or in `api_logs`' 32 bits.
    let isClamped: Bool

    init(input: JSONValue, output: JSONValue, cached: JSONValue, reasoning: JSONValue) {
        var isClamped = false
        self.input = Self.count(input, &isClamped)
        self.output = Self.count(output, &isClamped)
        self.cached = Self.count(cached, &isClamped)
        self.reasoning = Self.count(reasoning, &isClamped)
        self.isClamped = isClamped
    }

    private static func count(_ value: JSONValue, _ isClamped: inout Bool) -> Int64 {
        guard value.isStated else { return 0 }
        guard let number = value.number, !number.isBelowZero else {
            isClamped = true
            return 0
        }
        let count = number.scaled(by: 0, .towardZero).map(Int64.init(clamping:)) ?? .max
        if count > Int32.max { isClamped = true }
        return count
    }
}

/// The cost that an event states.
enum StatedCost: Hashable {
    /// No cost, or one that is no number. It is unpriced, which is not zero.
    case unpriced
    case priced(Cost)
    /// Negative, not finite, or beyond `numeric(20,12)`.
    case implausible

    init(_ value: JSONValue) {
        if let number = value.number {
            self = Cost(number).map(Self.priced) ?? .implausible
        } else if value.isString {
            self = Self.isNotFinite(value.trimmedText ?? "") ? .implausible : .unpriced
        } else {
            // Bare words such as NaN, which Python writes, and numbers too long for one.
            let isOtherType = !value.isStated || value.isTrue || value.isFalse || value.isArray || value.isObject
            self = isOtherType ? .unpriced : .implausible
        }
    }

    var cost: Cost? {
        guard case .priced(let cost) = self else { return nil }
        return cost
    }

    private static func isNotFinite(_ text: String) -> Bool {
        let unsigned = text.first == "-" || text.first == "+" ? text.dropFirst() : text[...]
        return ["nan", "inf", "infinity"].contains(unsigned.lowercased())
    }
}

extension ErrorText {
    /// The part of the scrubbed error text `text` that is stored. `name` is the error's class and code.
    func kept(of text: String?, name: String?) -> String? {
        switch self {
        case .code: name
        case .line: text.flatMap(Self.shortened) ?? (text == nil ? nil : name ?? "error")
        case .full: text
        }
    }

    /// The shortened text; `nil` if it has no word.
    private static func shortened(_ text: String) -> String? {
        let scalars = Array(text.unicodeScalars.prefix(lineLimit + 1))
        let end = scalars.indices.first { $0 == lineLimit || endsShortText(scalars, at: $0) } ?? scalars.count
        var kept = String(String.UnicodeScalarView(scalars[..<end])).trimmed
        guard end < scalars.count else { return kept }
        guard kept.unicodeScalars.contains(where: \.properties.isAlphabetic) else { return nil }
        kept += " …"
        return kept
    }

    /// Whether a line ends here, or a quotation begins: at a quote or a bracket. An apostrophe inside a word is no
    /// quote.
    private static func endsShortText(_ text: [Unicode.Scalar], at index: Int) -> Bool {
        switch text[index] {
        case "{", "[", "<", "`": return true
        case "'", "\u{2019}":
            let neighbours = [index - 1, index + 1].map {
                text.indices.contains($0) && text[$0].properties.isAlphabetic
            }
            return neighbours.contains(false)
        case let scalar where scalar.isASCII:
            // Asking Unicode about each letter would take longer than the rest of the event.
            return scalar == "\"" || scalar.value < 0x20 || scalar.value == 0x7F
        default:
            let properties = text[index].properties
            return properties.isQuotationMark || properties.generalCategory == .control
                || [.lineSeparator, .paragraphSeparator].contains(properties.generalCategory)
        }
    }
}

extension UsageEvent {
    /// Sets the start of the call, and flags it if it is not the stated one.
    mutating func note(_ time: EventTime) {
        switch time {
        case .stated(let time): occurredAt = time
        case .implausible(let time): occurredAt = time ?? occurredAt
        case .ahead: flags.append(.timeClamped)
        }
    }

    /// Flags the values that differ from those that the sender wrote.
    mutating func note(_ tokens: TokenCounts, _ cost: Cost?) {
        if tokens.isClamped { flags.append(.tokensClamped) }
        if let cost, cost.isSaturated { flags.append(.costSaturated) }
    }
}
