/// A value of one field: bindable, readable, and an element of arrays.
package protocol PostgresScalar: PostgresEncodable, PostgresDecodable, PostgresArrayElement {
    /// Appends the value in PostgreSQL's text format.
    func appendText(to text: inout [UInt8])

    /// Appends the value as an element of an array literal, quoted where its text may hold a delimiter.
    func appendElement(to text: inout [UInt8])

    /// The value `text` writes; `nil` if it writes none of this type.
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
        // Below zero there is one number more.
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
        // `description` is the shortest text that reads back as the same number; float8in takes its "inf" and "nan" too.
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
