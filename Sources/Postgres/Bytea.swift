extension UInt8: PostgresArrayElement {
    /// Appends `bytes` as one `bytea` in hex format (PostgreSQL, "Binary Data Types").
    package static func encodeArray(_ bytes: [UInt8], into text: inout [UInt8]) {
        bytes.appendText(to: &text)
    }

    /// The bytes of one `bytea` in hex format.
    package static func decodeArray(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        [UInt8](text: text)
    }
}

extension [UInt8]: PostgresArrayElement, PostgresScalar {
    package func appendText(to text: inout [UInt8]) {
        text.append(UInt8(ascii: "\\"))
        text.append(UInt8(ascii: "x"))
        appendHex(to: &text)
    }

    package func appendElement(to text: inout [UInt8]) {
        text.append(contentsOf: #""\\x"#.utf8)
        appendHex(to: &text)
        text.append(UInt8(ascii: "\""))
    }

    package init?(text: ArraySlice<UInt8>) {
        guard text.starts(with: #"\x"#.utf8), text.count.isMultiple(of: 2) else { return nil }
        self = []
        reserveCapacity(text.count / 2 - 1)
        for index in stride(from: text.startIndex + 2, to: text.endIndex, by: 2) {
            guard let high = Self.digit(text[index]), let low = Self.digit(text[index + 1]) else { return nil }
            append(high << 4 | low)
        }
    }

    private func appendHex(to text: inout [UInt8]) {
        for byte in self {
            text.append(Self.character(byte >> 4))
            text.append(Self.character(byte & 15))
        }
    }

    private static func character(_ digit: UInt8) -> UInt8 {
        digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
