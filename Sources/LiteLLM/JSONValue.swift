internal import Domain

/// A value as its JSON text, read in place. It is valid as long as the text.
struct JSONValue {
    /// The JSON text; empty without a value.
    let bytes: UnsafeRawBufferPointer

    static var absent: JSONValue { JSONValue(bytes: UnsafeRawBufferPointer(start: nil, count: 0)) }

    var exists: Bool { !bytes.isEmpty }

    /// Whether there is a value, and not `null`.
    var isStated: Bool { exists && !has(text: "null") }

    var isTrue: Bool { has(text: "true") }

    var isFalse: Bool { has(text: "false") }

    var isString: Bool { bytes.first == UInt8(ascii: "\"") }

    var isObject: Bool { bytes.first == UInt8(ascii: "{") }

    var isArray: Bool { bytes.first == UInt8(ascii: "[") }

    var isNumber: Bool { number != nil && !isString }

    /// Whether it is a JSON text, and neither object nor array.
    var isScalar: Bool { isTrue || isFalse || has(text: "null") || isNumber || isString }

    /// Whether it is an object or an array without content.
    var isEmptyContainer: Bool {
        (isObject || isArray) && bytes.dropFirst().dropLast().allSatisfy(\.isSpace)
    }

    /// The JSON text itself.
    var literal: String { String(decoding: bytes, as: UTF8.self) }

    /// The text of a string, or the literal of a number; `nil` for everything else.
    var text: String? {
        if isString { return JSONString.text(of: bytes) }
        return isNumber ? literal : nil
    }

    /// ``text`` without white space around it; `nil` where nothing is left.
    var trimmedText: String? {
        guard let trimmed = text?.trimmed, !trimmed.isEmpty else { return nil }
        return trimmed
    }

    /// The number, also if it is written as a string.
    var number: DecimalLiteral? {
        guard let first = bytes.first else { return nil }
        if first == UInt8(ascii: "\"") { return DecimalLiteral(JSONString.text(of: bytes).trimmed) }
        return first == UInt8(ascii: "-") || first.isDigit ? DecimalLiteral(literal) : nil
    }

    /// The whole number above zero, also if it is written as a string.
    var positiveInteger: Int64? {
        guard let digits = trimmedText, digits.utf8.allSatisfy(\.isDigit), let value = Int64(digits),
            value > 0
        else { return nil }
        return value
    }

    private func has(text: StaticString) -> Bool {
        // Mostly the length decides.
        bytes.count == text.utf8CodeUnitCount && text.withUTF8Buffer { bytes.elementsEqual($0) }
    }
}

extension JSONValue {
    /// A text of a client or proxy as it is stored: without credentials and surrounding white space, and of at most
    /// `limit` characters as PostgreSQL counts them; `nil` if nothing is left.
    func label(limit: Int = 255, scrubbing secrets: [String] = []) -> String? {
        // A character is at most 12 bytes of JSON, a pair of escaped surrogates.
        let text = prefix(limit * 16).trimmedText?.scrubbed(of: secrets)
        return text.map { $0.utf8.count <= limit ? $0 : String($0.unicodeScalars.prefix(limit)) }
    }

    /// The strings of an array, as labels; at most 32.
    func labels(scrubbing secrets: [String]) -> [String] {
        guard isArray else { return [] }
        return BodySplitter(body: bytes, maximumParts: 32).compactMap { part in
            guard case .document(let range) = part else { return nil }
            let element = JSONValue(bytes: UnsafeRawBufferPointer(rebasing: bytes[range]))
            return element.isString ? element.label(scrubbing: secrets) : nil
        }
    }

    /// A code or a name such as `429` or `RateLimitError`; `nil` for a longer text, or one with other characters than
    /// letters, digits and `_.:-`.
    func word(limit: Int, scrubbing secrets: [String]) -> String? {
        guard bytes.count <= limit + 2, let word = trimmedText, word.utf8.allSatisfy(\.isOfWord) else { return nil }
        return word == word.scrubbed(of: secrets) ? word : nil
    }

    /// An error text, scrubbed and of at most 8 KiB; `nil` for none.
    func message(scrubbing secrets: [String]) -> String? {
        guard isString else { return nil }
        // A byte of text is at most 6 bytes of JSON.
        return prefix(8 * 8192).trimmedText?.scrubbed(of: secrets).prefix(utf8Count: 8192)
    }

    private func prefix(_ count: Int) -> JSONValue {
        JSONValue(bytes: UnsafeRawBufferPointer(rebasing: bytes.prefix(count)))
    }
}

extension String {
    /// Without white space around it.
    var trimmed: String {
        // Most texts begin and end with a visible ASCII character; asking Unicode about it costs more than all else.
        if let first = utf8.first, let last = utf8.last, 0x21...0x7E ~= first, 0x21...0x7E ~= last { return self }
        guard let first = unicodeScalars.firstIndex(where: { !$0.properties.isWhitespace }),
            let last = unicodeScalars.lastIndex(where: { !$0.properties.isWhitespace })
        else { return "" }
        return String(unicodeScalars[first...last])
    }
}

extension UInt8 {
    fileprivate var isOfWord: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: ":"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}

/// JSON's strings (RFC 8259 §7), read leniently, as senders write them. NUL is dropped, as PostgreSQL's text cannot
/// hold it. Half a surrogate pair becomes U+FFFD.
enum JSONString {
    /// The text of the quoted string `literal`. Its closing quote may be missing.
    static func text(of literal: UnsafeRawBufferPointer) -> String {
        var content = literal.dropFirst()
        if content.last == quote, !endsEscaped(content.dropLast()) { content = content.dropLast() }
        guard content.contains(backslash) else { return String(decoding: content, as: UTF8.self) }
        var unescaping = Unescaping(content: UnsafeRawBufferPointer(rebasing: content))
        return unescaping.text()
    }

    /// The length of the quoted string at the beginning of `text`; `nil` if it does not end.
    static func length(in text: Slice<UnsafeRawBufferPointer>) -> Int? {
        var isEscaped = false
        for index in text.indices.dropFirst() {
            switch text[index] {
            case quote where !isEscaped: return index - text.startIndex + 1
            case backslash: isEscaped.toggle()
            default: isEscaped = false
            }
        }
        return nil
    }

    private static func endsEscaped(_ content: Slice<UnsafeRawBufferPointer>) -> Bool {
        !content.reversed().prefix { $0 == backslash }.count.isMultiple(of: 2)
    }
}

private let quote = UInt8(ascii: "\"")
private let backslash = UInt8(ascii: "\\")

private struct Unescaping {
    let content: UnsafeRawBufferPointer
    private var position = 0
    private var result: [UInt8] = []

    init(content: UnsafeRawBufferPointer) {
        self.content = content
        result.reserveCapacity(content.count)
    }

    mutating func text() -> String {
        while position < content.count {
            let byte = content[position]
            position += 1
            guard byte == backslash, let escape = JSONEscape.read(content, at: &position) else {
                result.append(byte)
                continue
            }
            switch escape {
            case .scalar("\0"): break
            case .scalar(let scalar): result.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            case .broken: result.append(contentsOf: UTF8.encodedReplacementCharacter)
            case .unknown(let byte): result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
