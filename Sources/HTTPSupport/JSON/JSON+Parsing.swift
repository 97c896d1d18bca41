internal import Domain

extension JSON {
    /// The value that `bytes` write (RFC 8259); `nil` where they write none, or one nested deeper than 128 levels.
    package init?(parsing bytes: [UInt8]) {
        var parser = JSONParser(bytes: bytes)
        guard let value = parser.document() else { return nil }
        self = value
    }
}

/// Reads one JSON text from its first byte to its last.
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

    private static let escapes: [UInt8: UInt8] = [
        UInt8(ascii: "\""): UInt8(ascii: "\""), UInt8(ascii: "\\"): UInt8(ascii: "\\"),
        UInt8(ascii: "/"): UInt8(ascii: "/"),
        UInt8(ascii: "b"): 8, UInt8(ascii: "f"): 12, UInt8(ascii: "n"): 10, UInt8(ascii: "r"): 13, UInt8(ascii: "t"): 9,
    ]

    private mutating func escape(into text: inout [UInt8]) -> Bool {
        guard let letter = current else { return false }
        position += 1
        if let byte = Self.escapes[letter] {
            text.append(byte)
            return true
        }
        guard letter == UInt8(ascii: "u"), let unit = hexUnit() else { return false }
        var units = [unit]
        if UTF16.isLeadSurrogate(unit), bytes[position...].starts(with: #"\u"#.utf8) {
            position += 2
            guard let trail = hexUnit() else { return false }
            units.append(trail)
        }
        // A lone surrogate is no text.
        guard let scalars = String(validating: units, as: UTF16.self) else { return false }
        text += scalars.utf8
        return true
    }

    private mutating func hexUnit() -> UInt16? {
        guard position + 4 <= bytes.count else { return nil }
        let digits = bytes[position..<position + 4]
        position += 4
        guard digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else { return nil }
        return UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
    }
}
