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

    /// The elements, each made by `decode` of its text or of `nil` for NULL; `nil` if the literal or an element is unreadable.
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
