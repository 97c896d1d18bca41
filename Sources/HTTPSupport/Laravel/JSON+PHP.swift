extension JSON {
    /// The value that PHP's `serialize` wrote as `bytes`; `nil` where they are none, or hold more than 64 levels.
    ///
    /// Arrays become objects whose keys are texts; objects, which nobody revives here, become the members they had; references
    /// become null.
    package init?(phpSerialized bytes: [UInt8]) {
        var reader = PHPReader(bytes: bytes)
        guard let value = reader.value(depth: 0), reader.isAtEnd else { return nil }
        self = value
    }
}

/// Reads one serialised value (php.net, "serialize"; the grammar is php-src's `var_unserializer.re`).
private struct PHPReader {
    private static let maximumDepth = 64

    let bytes: [UInt8]
    private var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    var isAtEnd: Bool { position == bytes.count }

    mutating func value(depth: Int) -> JSON? {
        guard depth < Self.maximumDepth, position < bytes.count else { return nil }
        let kind = bytes[position]
        position += 1
        if kind == UInt8(ascii: "N") { return take(";") ? .null : nil }
        guard take(":") else { return nil }
        switch kind {
        case UInt8(ascii: "b"): return text(upTo: ";").map { .bool($0 == "1") }
        case UInt8(ascii: "i"): return text(upTo: ";").flatMap { Int64($0) }.map(JSON.integer)
        case UInt8(ascii: "d"): return text(upTo: ";").map(JSON.string)
        case UInt8(ascii: "r"), UInt8(ascii: "R"): return text(upTo: ";").map { _ in .null }
        case UInt8(ascii: "s"): return quoted().flatMap { take(";") ? .string($0) : nil }
        case UInt8(ascii: "E"): return quoted().flatMap { take(";") ? .string($0) : nil }
        case UInt8(ascii: "a"): return members(depth: depth)
        case UInt8(ascii: "O"): return quoted() != nil && take(":") ? members(depth: depth) : nil
        default: return nil
        }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: byte) else { return false }
        position += 1
        return true
    }

    private mutating func text(upTo end: Unicode.Scalar) -> String? {
        guard let index = bytes[position...].firstIndex(of: UInt8(ascii: end)) else { return nil }
        defer { position = index + 1 }
        return String(decoding: bytes[position..<index], as: UTF8.self)
    }

    /// `5:"hello"`: the length counts bytes.
    private mutating func quoted() -> String? {
        guard let length = text(upTo: ":").flatMap({ Int($0) }), length >= 0, take("\""),
            length < bytes.count - position
        else { return nil }
        let text = String(decoding: bytes[position..<position + length], as: UTF8.self)
        position += length
        return take("\"") ? text : nil
    }

    /// `2:{key value key value}`
    private mutating func members(depth: Int) -> JSON? {
        guard let count = text(upTo: ":").flatMap({ Int($0) }), count >= 0, take("{") else { return nil }
        var members: [JSON.Member] = []
        for _ in 0..<count {
            guard let key = value(depth: depth + 1), let value = value(depth: depth + 1) else { return nil }
            switch key {
            case .string(let name), .number(let name): members.append(.init(name, value))
            default: return nil
            }
        }
        return take("}") ? .object(members) : nil
    }
}
