internal import Domain
package import NIOCore

/// A JSON value. It keeps the order of keys and the text of numbers, so money never passes through binary floating
/// point.
package enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    /// The literal text of a number (RFC 8259 §6).
    case number(String)
    case string(String)
    case array([JSON])
    case object([Member])

    /// A key of an object and its value.
    package struct Member: Sendable, Hashable {
        /// The key.
        package let key: String
        /// The value.
        package let value: JSON

        /// A member with this key and value.
        package init(_ key: String, _ value: JSON) {
            self.key = key
            self.value = value
        }
    }

    /// A whole number.
    package static func integer(_ value: some BinaryInteger) -> JSON { .number(String(value)) }

    /// An object with its keys in the given order.
    package static func object(_ members: KeyValuePairs<String, JSON>) -> JSON {
        .object(members.map { Member($0.key, $0.value) })
    }

    /// The value of an object's `key`, the last one where the key is repeated; `nil` for other values.
    package subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.key == key }?.value
    }

    /// The text of a string.
    package var text: String? { if case .string(let text) = self { text } else { nil } }

    /// The elements of an array.
    package var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }

    /// The members of an object.
    package var members: [Member]? { if case .object(let members) = self { members } else { nil } }

    /// An object with its own members and then those of `other`.
    package func merging(_ other: JSON) -> JSON { .object((members ?? []) + (other.members ?? [])) }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    /// A string.
    package init(stringLiteral value: String) { self = .string(value) }
    /// A whole number.
    package init(integerLiteral value: Int) { self = .integer(value) }
    /// `true` or `false`.
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    /// An array.
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    /// An object with its keys in the given order.
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map(Member.init)) }
    /// `null`.
    package init(nilLiteral: ()) { self = .null }
}

extension Optional<String> {
    /// A JSON string, or null.
    package var json: JSON { map(JSON.string) ?? .null }
}

extension Optional where Wrapped: BinaryInteger {
    /// A JSON number, or null.
    package var json: JSON { map { .integer($0) } ?? .null }
}

extension JSON {
    /// The value as text without white space, in UTF-8.
    package var buffer: ByteBuffer {
        var bytes: [UInt8] = []
        append(to: &bytes)
        return ByteBuffer(bytes: bytes)
    }

    /// Appends the value as text without white space.
    package func append(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes += "null".utf8
        case .bool(let value): bytes += (value ? "true" : "false").utf8
        case .number(let literal): bytes += literal.utf8
        case .string(let text): Self.append(text, to: &bytes)
        case .array(let elements):
            Self.append(elements, between: "[", "]", to: &bytes) { $0.append(to: &$1) }
        case .object(let members):
            Self.append(members, between: "{", "}", to: &bytes) { member, bytes in
                Self.append(member.key, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                member.value.append(to: &bytes)
            }
        }
    }

    private static func append<Element>(
        _ elements: [Element], between open: Unicode.Scalar, _ close: Unicode.Scalar, to bytes: inout [UInt8],
        _ body: (Element, inout [UInt8]) -> Void
    ) {
        bytes.append(UInt8(ascii: open))
        for (index, element) in elements.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            body(element, &bytes)
        }
        bytes.append(UInt8(ascii: close))
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        var text = text
        text.withUTF8 { append($0, to: &bytes) }
    }

    /// Appends a JSON string with the UTF-8 bytes of `text`.
    package static func append(_ text: UnsafeBufferPointer<UInt8>, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        // Copy the bytes between two escaped ones at once. Most texts have none.
        var start = text.startIndex
        for (index, byte) in text.enumerated() where isEscaped(byte) {
            bytes.append(contentsOf: text[start..<index])
            appendEscaped(byte, to: &bytes)
            start = index + 1
        }
        bytes.append(contentsOf: text[start...])
        bytes.append(UInt8(ascii: "\""))
    }

    private static func isEscaped(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }

    private static func appendEscaped(_ byte: UInt8, to bytes: inout [UInt8]) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
        case UInt8(ascii: "\n"): bytes += #"\n"#.utf8
        case UInt8(ascii: "\r"): bytes += #"\r"#.utf8
        case UInt8(ascii: "\t"): bytes += #"\t"#.utf8
        default:
            bytes += #"\u00"#.utf8
            bytes += [hex(byte >> 4), hex(byte & 15)]
        }
    }

    private static func hex(_ digit: UInt8) -> UInt8 {
        digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }
}

extension JSON {
    /// Parses `bytes` (RFC 8259); `nil` where they are not JSON, or are nested deeper than 128 levels.
    package init?(parsing bytes: [UInt8]) {
        var parser = JSONParser(bytes: bytes)
        guard let value = parser.document() else { return nil }
        self = value
    }
}

/// A parser of one JSON text.
private struct JSONParser {
    private static let maximumDepth = 128

    let bytes: [UInt8]
    private var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func document() -> JSON? {
        guard let value = value(depth: 0) else { return nil }
        skipSpace()
        return position == bytes.count ? value : nil
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        skipSpace()
        guard current == UInt8(ascii: byte) else { return false }
        position += 1
        return true
    }

    private mutating func take(word: String, _ value: JSON) -> JSON? {
        guard bytes[position...].starts(with: word.utf8) else { return nil }
        position += word.utf8.count
        return value
    }

    private mutating func value(depth: Int) -> JSON? {
        skipSpace()
        guard depth < Self.maximumDepth, let byte = current else { return nil }
        switch byte {
        case UInt8(ascii: "{"): return object(depth: depth)
        case UInt8(ascii: "["): return array(depth: depth)
        case UInt8(ascii: "\""): return string().map(JSON.string)
        case UInt8(ascii: "t"): return take(word: "true", .bool(true))
        case UInt8(ascii: "f"): return take(word: "false", .bool(false))
        case UInt8(ascii: "n"): return take(word: "null", .null)
        default: return number()
        }
    }

    private mutating func number() -> JSON? {
        let start = position
        while let byte = current, Self.numeric.contains(byte) { position += 1 }
        return DecimalLiteral(String(decoding: bytes[start..<position], as: UTF8.self)).map { .number($0.text) }
    }

    private static let numeric = Set("0123456789+-.eE".utf8)

    private mutating func array(depth: Int) -> JSON? {
        position += 1
        var elements: [JSON] = []
        if take("]") { return .array(elements) }
        repeat {
            guard let element = value(depth: depth + 1) else { return nil }
            elements.append(element)
        } while take(",")
        return take("]") ? .array(elements) : nil
    }

    private mutating func object(depth: Int) -> JSON? {
        position += 1
        var members: [JSON.Member] = []
        if take("}") { return .object(members) }
        repeat {
            skipSpace()
            guard current == UInt8(ascii: "\""), let key = string(), take(":"), let value = value(depth: depth + 1)
            else { return nil }
            members.append(.init(key, value))
        } while take(",")
        return take("}") ? .object(members) : nil
    }

    private mutating func string() -> String? {
        position += 1
        var text: [UInt8] = []
        while let byte = current {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(validating: text, as: UTF8.self)
            case UInt8(ascii: "\\"): guard escape(into: &text) else { return nil }
            case 0..<0x20: return nil
            default: text.append(byte)
            }
        }
        return nil
    }

    /// Appends what the escape at the position stands for; `false` for one that is no JSON.
    private mutating func escape(into text: inout [UInt8]) -> Bool {
        var end = position
        guard case .scalar(let scalar) = bytes.withUnsafeBytes({ JSONEscape.read($0, at: &end) }) else { return false }
        position = end
        text += String(scalar).utf8
        return true
    }
}
