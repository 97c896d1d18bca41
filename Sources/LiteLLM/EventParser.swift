internal import Crypto
package import Domain

/// What the parser needs besides the body. The parser is pure, so time and randomness come from the caller.
package struct Arrival: Sendable {
    /// When the body was received.
    package var at: Timestamp
    /// How long events are kept. The start of an older event is implausible.
    package var retention: Duration
    /// The header `Idempotency-Key`, the idempotency key of a single documented event.
    package var idempotencyKey: String?
    /// How much is kept of a proxy's error text.
    package var errorText: ErrorText
    /// Makes the keys of events without an idempotency key.
    package var generator: any RandomNumberGenerator & Sendable

    /// The arrival of a request.
    package init(
        at: Timestamp, retention: Duration, errorText: ErrorText = .line, idempotencyKey: String? = nil,
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        self.at = at
        self.retention = retention
        self.errorText = errorText
        self.idempotencyKey = idempotencyKey
        self.generator = generator
    }
}

/// What a body contains, in its order.
package struct ParsedBody: Sendable {
    /// In which form the sender expects the answer.
    package enum Form: Sendable, Hashable {
        /// One documented event, or a body that is no object. The answer is Laravel's.
        case documented
        /// Everything else. The answer has one result per event.
        case events
    }

    /// The form of the answer.
    package var form: Form
    /// One for each element of an array, nulls included, and each document of a sequence.
    package var results: [Result<UsageEvent, Rejection>]

    /// A body with these results.
    package init(form: Form, results: [Result<UsageEvent, Rejection>]) {
        self.form = form
        self.results = results
    }
}

/// Turns the body of a webhook request into one result per event. It is used by one thread at a time.
package final class EventParser {
    /// The most events of one body. What follows them is one more result, which shows that the body is too long.
    package static let maximumEvents = 100_000

    private let reader = EventReader()

    /// A parser, whose memory grows with the largest event.
    package init() {}

    /// Reads a body: an array of events, events one after another, one event, or something else.
    package static func parse(_ body: [UInt8], arrival: Arrival) -> ParsedBody {
        body.withUnsafeBytes { EventParser().parse($0, arrival: arrival) }
    }

    /// Reads a body in place. `padding` is the number of bytes that may be read after it.
    package func parse(_ body: UnsafeRawBufferPointer, padding: Int = 0, arrival: Arrival) -> ParsedBody {
        var splitter = BodySplitter(body: body, maximumParts: Self.maximumEvents)
        var parsing = BodyParsing(body: body, padding: padding, arrival: arrival, reader: reader)
        guard let first = splitter.next() else {
            guard !splitter.hasArray else { return ParsedBody(form: .events, results: []) }
            return ParsedBody(form: .documented, results: [parsing.unreadable(body, "The body is empty.")])
        }
        if splitter.isAtEnd, !splitter.hasArray {
            let (form, result) = parsing.only(first)
            return ParsedBody(form: form, results: [result])
        }
        var results = [parsing.result(of: first)]
        while let part = splitter.next() { results.append(parsing.result(of: part)) }
        return ParsedBody(form: .events, results: results)
    }
}

/// The reading of one body's parts.
private struct BodyParsing {
    private let body: UnsafeRawBufferPointer
    private let padding: Int
    private let arrival: Arrival
    private var generator: any RandomNumberGenerator & Sendable
    private let reader: EventReader

    init(body: UnsafeRawBufferPointer, padding: Int, arrival: Arrival, reader: EventReader) {
        self.body = body
        self.padding = padding
        self.arrival = arrival
        self.reader = reader
        generator = arrival.generator
    }

    /// The bytes that may be read from the begin of `range` on.
    private func readable(from range: Range<Int>) -> Int { body.count + padding - range.lowerBound }

    /// The result of a body's only part, and how the sender expects its answer.
    mutating func only(_ part: BodySplitter.Part) -> (ParsedBody.Form, Result<UsageEvent, Rejection>) {
        guard case .document(let range) = part else { return (.events, result(of: part)) }
        let text = UnsafeRawBufferPointer(rebasing: body[range])
        let result = result(of: text, readable: readable(from: range), idempotencyKey: arrival.idempotencyKey)
        return (JSONValue(bytes: text).isObject ? form(of: result) : .documented, result)
    }

    mutating func result(of part: BodySplitter.Part) -> Result<UsageEvent, Rejection> {
        switch part {
        case .document(let range):
            return result(of: UnsafeRawBufferPointer(rebasing: body[range]), readable: readable(from: range))
        case .broken(let range):
            let part = UnsafeRawBufferPointer(rebasing: body[range])
            return unreadable(part, "The body is not JSON from here on, or ends too early.")
        }
    }

    private func form(of result: Result<UsageEvent, Rejection>) -> ParsedBody.Form {
        let event =
            switch result {
            case .success(let event): event
            case .failure(let rejection): rejection.event
            }
        return event?.shape == .documented ? .documented : .events
    }

    private mutating func result(
        of text: UnsafeRawBufferPointer, readable: Int, idempotencyKey: String? = nil
    ) -> Result<UsageEvent, Rejection> {
        guard JSONValue(bytes: text).isObject else { return unreadable(text, "The element is no object.") }
        do throws(EventReader.Failure) {
            let fields = try reader.read(text, readable: readable)
            return event(fields, idempotencyKey: idempotencyKey)
        } catch {
            guard error == .invalidText else { return unreadable(text, "The object is not JSON.") }
        }
        // It is read again with U+FFFD for bytes that are not UTF-8, and spaces for control characters.
        let readableText = String(decoding: text, as: UTF8.self).utf8.map { $0 < 0x20 ? 0x20 : $0 }
        return readableText.withUnsafeBytes { text in
            guard let fields = try? reader.read(text, readable: text.count) else {
                return unreadable(text, "The object is not JSON.")
            }
            return event(fields, idempotencyKey: idempotencyKey)
        }
    }

    private mutating func event(_ fields: EventFields, idempotencyKey: String?) -> Result<UsageEvent, Rejection> {
        if ProxyEvent.recognizes(fields) { return ProxyEvent(fields: fields, arrival: arrival).result() }
        return DocumentedEvent(
            fields: fields, arrival: arrival, idempotencyKey: idempotencyKey, generator: &generator
        ).result()
    }

    func unreadable(_ part: UnsafeRawBufferPointer, _ detail: String) -> Result<UsageEvent, Rejection> {
        .failure(.unreadable(part, of: body, detail: detail))
    }
}

extension Rejection {
    /// An event that names no user.
    static func missingIdentity(_ event: UsageEvent) -> Rejection {
        Rejection(reason: .missingIdentity, detail: "The event names no user.", key: event.key, event: event)
    }

    /// An event with an implausible start.
    static func implausibleTime(_ event: UsageEvent) -> Rejection {
        Rejection(
            reason: .implausibleTime,
            detail: "startTime is no time, is older than the retention, or lies more than 24 hours ahead.",
            key: event.key, event: event)
    }

    /// An event with an implausible cost.
    static func implausibleCost(_ event: UsageEvent) -> Rejection {
        Rejection(
            reason: .implausibleCost, detail: "The cost is negative, not finite, or beyond numeric(20,12).",
            key: event.key, event: event)
    }

    /// An event of a caller whom `custom_auth` refused. None of its texts is kept, and of its key only the hash,
    /// whatever the key looks like.
    static func denied(_ event: UsageEvent, presenting key: String?) -> Rejection {
        var event = event
        event.identity = IdentityClaim(keyHashes: key.map { [KeyHash(of: $0)] } ?? [])
        event.errorMessage = nil
        event.endUser = nil
        event.tags = []
        return Rejection(
            reason: .denied, detail: "The proxy refused the caller's credentials.", key: event.key, event: event)
    }

    /// A part of `body` that is no event. If the part is empty, because the body ends too early, the digest of the
    /// whole body makes its key.
    static func unreadable(_ part: UnsafeRawBufferPointer, of body: UnsafeRawBufferPointer, detail: String) -> Rejection
    {
        let digest = SHA256.hash(of: part.isEmpty ? body : part)
        return Rejection(
            reason: .unreadable, detail: detail, key: EventKey(milliseconds: 0, digest: digest),
            excerpt: "\(part.count) bytes, SHA-256 \(SHA256.hash(of: part).lowercaseHex): \(Excerpt.of(part))")
    }
}
