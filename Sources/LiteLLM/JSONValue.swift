internal import Domain

/// A value as its JSON text, read in place; valid while the text is.
struct JSONValue {
    /// Empty where there is no value.
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

    /// What a string says, or the literal of a number; `nil` for everything else.
    var text: String? {
        if isString { return JSONString.text(of: bytes) }
        return isNumber ? literal : nil
    }

    /// ``text`` without white space around it; `nil` where nothing is left.
    var trimmedText: String? {
        guard let trimmed = text?.trimmed, !trimmed.isEmpty else { return nil }
        return trimmed
    }

    /// A number, or a string that writes one.
    var number: DecimalLiteral? {
        guard let first = bytes.first else { return nil }
        if first == UInt8(ascii: "\"") { return DecimalLiteral(JSONString.text(of: bytes).trimmed) }
        return first == UInt8(ascii: "-") || first.isDigit ? DecimalLiteral(literal) : nil
    }

    /// A number without fraction and above zero, or a string of its digits.
    var positiveInteger: Int64? {
        guard let digits = trimmedText, digits.utf8.allSatisfy(\.isDigit), let value = Int64(digits),
            value > 0
        else { return nil }
        return value
    }

    private func has(text: StaticString) -> Bool {
        text.withUTF8Buffer { bytes.elementsEqual($0) }
    }
}
