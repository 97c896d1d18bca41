/// JSON's strings (RFC 8259 §7), as lenient as the senders are (`litellm.md` §4): NUL is dropped, since PostgreSQL's
/// text cannot hold it, and half a surrogate pair becomes U+FFFD.
enum JSONString {
    /// What the quoted string `literal` says. Its closing quote may be missing.
    static func text(of literal: UnsafeRawBufferPointer) -> String {
        var content = literal.dropFirst()
        if content.last == quote, !endsEscaped(content.dropLast()) { content = content.dropLast() }
        guard content.contains(backslash) else { return String(decoding: content, as: UTF8.self) }
        var unescaping = Unescaping(content: UnsafeRawBufferPointer(rebasing: content))
        return unescaping.text()
    }

    /// The length of the quoted string that `text` begins with; `nil` where it does not end.
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
            guard byte == backslash, position < content.count else {
                result.append(byte)
                continue
            }
            let escape = content[position]
            position += 1
            append(escape: escape)
        }
        return String(decoding: result, as: UTF8.self)
    }

    private mutating func append(escape: UInt8) {
        switch escape {
        case UInt8(ascii: "b"): result.append(0x08)
        case UInt8(ascii: "f"): result.append(0x0C)
        case UInt8(ascii: "n"): result.append(0x0A)
        case UInt8(ascii: "r"): result.append(0x0D)
        case UInt8(ascii: "t"): result.append(0x09)
        case UInt8(ascii: "u"): append(takeScalar())
        default: result.append(escape)
        }
    }

    private mutating func append(_ scalar: Unicode.Scalar) {
        guard scalar != "\0" else { return }
        result.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    }

    /// The scalar behind `\u`, of which a pair of surrogates is one.
    private mutating func takeScalar() -> Unicode.Scalar {
        guard let unit = takeUnit(at: position) else { return "\u{FFFD}" }
        position += 4
        guard UTF16.isLeadSurrogate(unit) else { return Unicode.Scalar(unit) ?? "\u{FFFD}" }
        guard position + 1 < content.count, content[position] == backslash, content[position + 1] == UInt8(ascii: "u"),
            let trail = takeUnit(at: position + 2), UTF16.isTrailSurrogate(trail)
        else { return "\u{FFFD}" }
        position += 6
        return UTF16.decode(UTF16.EncodedScalar([unit, trail]))
    }

    private func takeUnit(at start: Int) -> UInt16? {
        guard start + 4 <= content.count else { return nil }
        var unit: UInt16 = 0
        for byte in content[start..<(start + 4)] {
            switch byte {
            case 0x30...0x39: unit = unit << 4 | UInt16(byte - 0x30)
            case 0x41...0x46, 0x61...0x66: unit = unit << 4 | UInt16((byte | 0x20) - 0x61 + 10)
            default: return nil
            }
        }
        return unit
    }
}
