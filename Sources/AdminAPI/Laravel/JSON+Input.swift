import Domain
import HTTPSupport

/// Input values as PHP understands them: a number may be written as a text.
extension JSON {
    /// The text of a string or number.
    var scalarText: String? {
        switch self {
        case .string(let text), .number(let text): text
        default: nil
        }
    }

    /// The number that a number or text writes.
    var decimal: DecimalLiteral? { scalarText.flatMap { DecimalLiteral($0) } }

    /// The whole number that a number or text writes, also as `10.0`.
    var wholeNumber: Int64? {
        guard let text = scalarText else { return nil }
        if let number = Int64(text) { return number }
        guard case .number = self else { return nil }
        return decimal?.whole.flatMap { Int64(exactly: $0) }
    }

    /// Characters of a text or number, elements of a list.
    var length: Int { scalarText?.unicodeScalars.count ?? elements?.count ?? 0 }
}

extension String {
    /// Whether it is an address by RFC 5322 and RFC 6531, as Laravel's rule `email` reads them.
    var isEmailAddress: Bool {
        // Laravel's column takes 255 characters, each of 4 bytes at most: what is longer is nobody's, whatever its
        // pattern.
        guard utf8.count <= 1020, let at = lastIndex(of: "@"), !utf8.contains(0) else { return false }
        let (local, domain) = (self[..<at], self[index(after: at)...])
        let isQuoted = local.wholeMatch(of: /"(?:[^"\\\r\n]|\\[ -~])*"/) != nil
        let isLiteral = domain.wholeMatch(of: /\[[0-9A-Fa-f:.]+\]/) != nil
        return (isQuoted || local.isDotted(by: \.isLocalCharacter)) && (isLiteral || domain.isDomain)
    }
}

extension Substring {
    /// Whether it is made of parts of these characters with one dot between any two.
    fileprivate func isDotted(by isAllowed: (Unicode.Scalar) -> Bool) -> Bool {
        split(separator: ".", omittingEmptySubsequences: false)
            .allSatisfy { !$0.isEmpty && $0.unicodeScalars.allSatisfy(isAllowed) }
    }

    fileprivate var isDomain: Bool {
        utf8.count <= 253
            && isDotted(by: { !$0.isASCII || $0 == "-" || $0.properties.isAlphabetic || ("0"..."9").contains($0) })
            && split(separator: ".").allSatisfy { $0.utf8.count <= 63 && $0.first != "-" && $0.last != "-" }
    }
}

extension Unicode.Scalar {
    /// RFC 5322 `atext`, and everything beyond ASCII.
    fileprivate var isLocalCharacter: Bool {
        !isASCII || properties.isAlphabetic || ("0"..."9").contains(self)
            || "!#$%&'*+-/=?^_`{|}~".unicodeScalars.contains(self)
    }
}
