import Postgres

/// Finds a text in another without regard to case.
///
/// PostgreSQL's `lower` depends on the collation: in a Turkish one `INFO` becomes `ınfo`, and in `C` only ASCII letters
/// change. So this type lists the cases of each letter, and PostgreSQL compares code points.
enum TextSearch {
    /// The condition that `column` contains `text`.
    static func condition(_ column: Query, has text: String) -> Query {
        "((\(column)) COLLATE pg_catalog.\"C\" ~ \(pattern(of: text)))"
    }

    /// A regular expression of PostgreSQL for `text` in any case.
    static func pattern(of text: String) -> String {
        text.unicodeScalars.reduce(into: "") { pattern, scalar in
            let cases = scalar.cases
            if cases.count > 1 {
                pattern += "[\(cases.map(String.init).joined())]"
            } else if scalar.isASCII, !scalar.isLetterOrDigit {
                pattern += "\\\(scalar)"
            } else {
                pattern.unicodeScalars.append(scalar)
            }
        }
    }
}

extension Unicode.Scalar {
    /// The four letters that count as one, because the language of a text is unknown.
    private static let dottedAndDotless: [Unicode.Scalar] = ["i", "I", "\u{131}", "\u{130}"]
    /// The sigmas. One of them is only used at the end of a word.
    private static let sigmas: [Unicode.Scalar] = ["\u{3C3}", "\u{3A3}", "\u{3C2}"]

    /// The scalar and its other cases that are one scalar, in a fixed order.
    fileprivate var cases: [Unicode.Scalar] {
        for family in [Self.dottedAndDotless, Self.sigmas] where family.contains(self) { return family }
        var cases = [self]
        for other in [lowercase, uppercase, uppercase.lowercase, lowercase.uppercase] where !cases.contains(other) {
            cases.append(other)
        }
        return cases
    }

    private var lowercase: Unicode.Scalar { Self.only(of: properties.lowercaseMapping) ?? self }
    private var uppercase: Unicode.Scalar { Self.only(of: properties.uppercaseMapping) ?? self }

    private static func only(of text: String) -> Unicode.Scalar? {
        text.unicodeScalars.count == 1 ? text.unicodeScalars.first : nil
    }

    fileprivate var isLetterOrDigit: Bool { properties.isAlphabetic || ("0"..."9").contains(self) }
}
