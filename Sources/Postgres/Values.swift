/// A value that can be bound to a placeholder of a query.
package protocol PostgresEncodable: Sendable {
    /// Appends the value in PostgreSQL's text format. For NULL it appends nothing and returns `false`.
    func encode(into text: inout [UInt8]) -> Bool
}

/// A value that can be read from a column.
package protocol PostgresDecodable: Sendable {
    /// The value of a column's `text`, which is `nil` for NULL; `nil` if the text is not of this type.
    init?(postgresText text: ArraySlice<UInt8>?)
}

/// A type whose Swift arrays PostgreSQL can store, as an array. An array of `UInt8` is one `bytea`.
package protocol PostgresArrayElement: Sendable {
    /// Appends the whole array in PostgreSQL's text format.
    static func encodeArray(_ elements: [Self], into text: inout [UInt8])

    /// The array of the literal `text`; `nil` if it is none.
    static func decodeArray(_ text: ArraySlice<UInt8>) -> [Self]?
}

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
    package func encode(into text: inout [UInt8]) -> Bool {
        self?.encode(into: &text) ?? false
    }
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text else {
            self = .none
            return
        }
        guard let value = Wrapped(postgresText: text) else { return nil }
        self = value
    }
}

extension Array: PostgresEncodable where Element: PostgresArrayElement {
    package func encode(into text: inout [UInt8]) -> Bool {
        Element.encodeArray(self, into: &text)
        return true
    }
}

extension Array: PostgresDecodable where Element: PostgresArrayElement {
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text, let elements = Element.decodeArray(text) else { return nil }
        self = elements
    }
}

/// A value of one field. It can be bound, read, and be an element of arrays.
package protocol PostgresScalar: PostgresEncodable, PostgresDecodable, PostgresArrayElement {
    /// Appends the value in PostgreSQL's text format.
    func appendText(to text: inout [UInt8])

    /// Appends the value as an element of an array literal, quoted if its text may contain a delimiter.
    func appendElement(to text: inout [UInt8])

    /// The value of `text`; `nil` if it is not of this type.
    init?(text: ArraySlice<UInt8>)
}

extension PostgresScalar {
    package func encode(into text: inout [UInt8]) -> Bool {
        appendText(to: &text)
        return true
    }

    package func appendElement(to text: inout [UInt8]) {
        appendText(to: &text)
    }

    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text else { return nil }
        self.init(text: text)
    }
}

extension PostgresScalar where Self: FixedWidthInteger & SignedInteger {
    package func appendText(to text: inout [UInt8]) {
        if self < 0 {
            text.append(UInt8(ascii: "-"))
        }
        let start = text.count
        var rest = magnitude
        repeat {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            text.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: digit))
            rest = quotient
        } while rest != 0
        text[start...].reverse()
    }

    package init?(text: ArraySlice<UInt8>) {
        let isNegative = text.first == UInt8(ascii: "-")
        let digits = isNegative ? text.dropFirst() : text
        guard !digits.isEmpty else { return nil }
        // There is one more number below zero than above.
        self = 0
        for byte in digits {
            let digit = byte &- UInt8(ascii: "0")
            let (product, isBeyond) = multipliedReportingOverflow(by: 10)
            let (rest, isFurther) = product.subtractingReportingOverflow(Self(truncatingIfNeeded: digit))
            guard digit < 10, !isBeyond, !isFurther else { return nil }
            self = rest
        }
        guard isNegative || self != .min else { return nil }
        if !isNegative { negate() }
    }
}

extension Int: PostgresScalar {}
extension Int32: PostgresScalar {}
extension Int64: PostgresScalar {}

extension Double: PostgresScalar {
    package func appendText(to text: inout [UInt8]) {
        // `description` is the shortest text that reads back as the same number; float8in takes its "inf" and "nan"
        // too.
        text.append(contentsOf: description.utf8)
    }

    package init?(text: ArraySlice<UInt8>) {
        self.init(String(decoding: text, as: UTF8.self))
    }
}

extension Bool: PostgresScalar {
    package func appendText(to text: inout [UInt8]) {
        text.append(UInt8(ascii: self ? "t" : "f"))
    }

    package init?(text: ArraySlice<UInt8>) {
        switch text.first {
        case UInt8(ascii: "t") where text.count == 1: self = true
        case UInt8(ascii: "f") where text.count == 1: self = false
        default: return nil
        }
    }
}

extension String: PostgresScalar {
    package func appendText(to text: inout [UInt8]) {
        text.append(contentsOf: utf8)
    }

    package func appendElement(to text: inout [UInt8]) {
        let quote = UInt8(ascii: "\"")
        let backslash = UInt8(ascii: "\\")
        text.append(quote)
        if utf8.contains(where: { $0 == quote || $0 == backslash }) {
            for byte in utf8 {
                if byte == quote || byte == backslash {
                    text.append(backslash)
                }
                text.append(byte)
            }
        } else {
            text.append(contentsOf: utf8)
        }
        text.append(quote)
    }

    package init?(text: ArraySlice<UInt8>) {
        self.init(decoding: text, as: UTF8.self)
    }
}

extension PostgresScalar {
    package static func encodeArray(_ elements: [Self], into text: inout [UInt8]) {
        encodeLiteral(elements, into: &text) { $0.appendElement(to: &$1) }
    }

    package static func decodeArray(_ text: ArraySlice<UInt8>) -> [Self]? {
        var reader = ArrayLiteralReader(text)
        return reader.read { element in element.flatMap { Self(text: $0) } }
    }
}

extension Optional: PostgresArrayElement where Wrapped: PostgresScalar {
    package static func encodeArray(_ elements: [Wrapped?], into text: inout [UInt8]) {
        encodeLiteral(elements, into: &text) { element, text in
            if let element {
                element.appendElement(to: &text)
            } else {
                text.append(contentsOf: "NULL".utf8)
            }
        }
    }

    package static func decodeArray(_ text: ArraySlice<UInt8>) -> [Wrapped?]? {
        var reader = ArrayLiteralReader(text)
        return reader.read { element in Wrapped?(postgresText: element) }
    }
}

/// Appends `{…,…}` (PostgreSQL, "Array Input and Output Syntax").
private func encodeLiteral<Element>(
    _ elements: [Element], into text: inout [UInt8], _ append: (Element, inout [UInt8]) -> Void
) {
    text.append(UInt8(ascii: "{"))
    var isFirst = true
    for element in elements {
        if !isFirst {
            text.append(UInt8(ascii: ","))
        }
        isFirst = false
        append(element, &text)
    }
    text.append(UInt8(ascii: "}"))
}

/// Reads a one-dimensional array literal as PostgreSQL writes it.
private struct ArrayLiteralReader {
    private var rest: ArraySlice<UInt8>

    init(_ text: ArraySlice<UInt8>) {
        rest = text
    }

    /// The elements, each made by `decode` of its text or of `nil` for NULL; `nil` if the literal or an element is
    /// unreadable.
    mutating func read<Element>(_ decode: (ArraySlice<UInt8>?) -> Element?) -> [Element]? {
        guard rest.popFirst() == UInt8(ascii: "{") else { return nil }
        var elements: [Element] = []
        if rest.first == UInt8(ascii: "}") {
            return rest.count == 1 ? elements : nil
        }
        while true {
            let isQuoted = rest.first == UInt8(ascii: "\"")
            guard let text = isQuoted ? readQuoted() : readPlain() else { return nil }
            let isNull = !isQuoted && text.elementsEqual("NULL".utf8)
            guard let element = decode(isNull ? nil : text) else { return nil }
            elements.append(element)
            switch rest.popFirst() {
            case UInt8(ascii: ","): continue
            case UInt8(ascii: "}"): return rest.isEmpty ? elements : nil
            default: return nil
            }
        }
    }

    private mutating func readPlain() -> ArraySlice<UInt8>? {
        let text = rest.prefix { $0 != UInt8(ascii: ",") && $0 != UInt8(ascii: "}") }
        rest = rest[text.endIndex...]
        // An opening brace would be a second dimension.
        return text.isEmpty || text.first == UInt8(ascii: "{") ? nil : text
    }

    private mutating func readQuoted() -> ArraySlice<UInt8>? {
        rest.removeFirst()
        var text: [UInt8] = []
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "\""): return text[...]
            case UInt8(ascii: "\\"):
                guard let escaped = rest.popFirst() else { return nil }
                text.append(escaped)
            default: text.append(byte)
            }
        }
        return nil
    }
}

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
