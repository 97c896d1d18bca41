/// What a backslash in a JSON string stands for (RFC 8259 §7). All parsers of this project read escapes here, and
/// decide themselves what to do with a wrong one.
package enum JSONEscape: Sendable, Hashable {
    /// A character, written by a letter or as `\u` and its code. A pair of surrogates is one character.
    case scalar(Unicode.Scalar)
    /// Half a surrogate pair, or `\u` without four hexadecimal digits.
    case broken
    /// A byte that JSON does not allow after a backslash.
    case unknown(UInt8)

    /// Reads the escape whose backslash is before `position`, and moves `position` after what belongs to it; `nil` at
    /// the end of `text`.
    package static func read(_ text: UnsafeRawBufferPointer, at position: inout Int) -> JSONEscape? {
        guard position < text.count else { return nil }
        let letter = text[position]
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return .scalar(Unicode.Scalar(letter))
        case UInt8(ascii: "b"): return .scalar("\u{8}")
        case UInt8(ascii: "f"): return .scalar("\u{C}")
        case UInt8(ascii: "n"): return .scalar("\n")
        case UInt8(ascii: "r"): return .scalar("\r")
        case UInt8(ascii: "t"): return .scalar("\t")
        case UInt8(ascii: "u"): return readCode(text, at: &position)
        default: return .unknown(letter)
        }
    }

    private static func readCode(_ text: UnsafeRawBufferPointer, at position: inout Int) -> JSONEscape {
        guard let unit = unit(text, at: position) else { return .broken }
        position += 4
        guard UTF16.isLeadSurrogate(unit) else { return Unicode.Scalar(unit).map(Self.scalar) ?? .broken }
        guard position + 1 < text.count, text[position] == UInt8(ascii: "\\"),
            text[position + 1] == UInt8(ascii: "u"), let trail = Self.unit(text, at: position + 2),
            UTF16.isTrailSurrogate(trail)
        else { return .broken }
        position += 6
        return .scalar(UTF16.decode(UTF16.EncodedScalar([unit, trail])))
    }

    /// The UTF-16 unit that four hexadecimal digits from `start` on write.
    private static func unit(_ text: UnsafeRawBufferPointer, at start: Int) -> UInt16? {
        guard start + 4 <= text.count else { return nil }
        var unit: UInt16 = 0
        for byte in text[start..<(start + 4)] {
            switch byte {
            case 0x30...0x39: unit = unit << 4 | UInt16(byte - 0x30)
            case 0x41...0x46, 0x61...0x66: unit = unit << 4 | UInt16((byte | 0x20) - 0x61 + 10)
            default: return nil
            }
        }
        return unit
    }
}
