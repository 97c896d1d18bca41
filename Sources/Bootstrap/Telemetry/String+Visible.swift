extension String {
    /// With every character spelled out that shows nothing and steers a terminal, a line or a reader: control
    /// characters, line and paragraph separators, and format characters, of which some turn the direction of what
    /// follows.
    ///
    /// What comes from data passes it on its way to a log or terminal. The only escapes are `\\n`, `\\r`, `\\t` and
    /// `\\u{…}` with the number in hexadecimal.
    package var visible: String { escaping { "\\u{\(String($0.value, radix: 16))}" } }

    /// The same in a JSON text, in which such characters stand in strings only, and stand for themselves as `\\uXXXX`.
    package var visibleJSON: String {
        split(separator: "\n", omittingEmptySubsequences: false).map { line in
            String(line).escaping { scalar in
                String(scalar).utf16.map { unit in
                    let digits = String(unit, radix: 16)
                    return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }.joined()
            }
        }.joined(separator: "\n")
    }

    private func escaping(_ escape: (Unicode.Scalar) -> String) -> String {
        // Almost every text of almost every line: nothing of it needs a look at its scalars.
        if utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) { return self }
        guard unicodeScalars.contains(where: \.steers) else { return self }
        return unicodeScalars.reduce(into: "") { text, scalar in
            switch scalar {
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.steers: text += escape(scalar)
            default: text.unicodeScalars.append(scalar)
            }
        }
    }
}

extension Unicode.Scalar {
    fileprivate var steers: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}
