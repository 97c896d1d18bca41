package import Hummingbird

/// One name and value of a query string or of a form's body.
///
/// Both are written alike (url.spec.whatwg.org, "application/x-www-form-urlencoded"): a plus is a space, `%2B` is a
/// plus.
package struct FormField: Sendable, Hashable {
    package let name: String
    /// `nil` where its bytes are not UTF-8.
    package let value: String?

    /// The fields that `bytes` write, in their order. A `%` that no two hexadecimal digits follow stands for itself.
    package static func parse(_ bytes: some Sequence<UInt8>) -> [FormField] {
        Array(bytes).split(separator: UInt8(ascii: "&")).map { pair in
            let end = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
            return FormField(
                name: String(decoding: decoded(pair[..<end]), as: UTF8.self),
                value: String(validating: decoded(pair[end...].dropFirst()), as: UTF8.self))
        }
    }

    private static func decoded(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "+"): decoded.append(UInt8(ascii: " "))
            case UInt8(ascii: "%"):
                let digits = bytes[index...].prefix(2).compactMap(\.hexadecimalDigit)
                if digits.count == 2 {
                    decoded.append(digits[0] << 4 | digits[1])
                    index += 2
                } else {
                    decoded.append(byte)
                }
            default: decoded.append(byte)
            }
        }
        return decoded
    }
}

extension Request {
    /// The fields of the query string.
    package var queryFields: [FormField] { FormField.parse((uri.query ?? "").utf8) }
}

extension UInt8 {
    /// The value of a hexadecimal digit, in either case.
    fileprivate var hexadecimalDigit: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
