/// Fields of comma-separated values (RFC 4180).
enum CSV {
    /// Appends text of others, in UTF-8: quoted where necessary, and safe for spreadsheets, which run a cell that
    /// begins with `=`, `+`, `-`, `@`, a tab or a carriage return as a formula (owasp.org, "CSV Injection").
    ///
    /// A `'` is put before such a beginning, also before its full-width form and after leading white space and
    /// invisible characters. Spreadsheets of other languages split at `;` and ignore our quotes, so the text after a
    /// `;` is treated as a beginning too. A plain number stays as it is.
    static func append(_ text: some Collection<UInt8>, to bytes: inout [UInt8]) {
        switch form(of: text) {
        case .plain: bytes.append(contentsOf: text)
        case .quoted: appendQuoted(text, to: &bytes)
        case .doubtful:
            let text = String(decoding: text, as: UTF8.self)
            let harmless = text.isNumber ? text : text.withoutFormulas
            if harmless != text || harmless.utf8.contains(where: separates) {
                appendQuoted(harmless.utf8, to: &bytes)
            } else {
                bytes.append(contentsOf: harmless.utf8)
            }
        }
    }

    private enum Form {
        case plain, quoted
        /// It may begin a formula, and needs the full check.
        case doubtful
    }

    /// A quick check of the bytes. Almost every text is the name of a model or provider, and there are millions of
    /// them.
    private static func form(of text: some Collection<UInt8>) -> Form {
        var isAtStart = true
        var form = Form.plain
        for byte in text {
            switch byte {
            case UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "@"):
                if isAtStart { return .doubtful }
            case UInt8(ascii: ";"), UInt8(ascii: "\n"):
                isAtStart = true
                form = .quoted
                continue
            case UInt8(ascii: ","): form = .quoted
            case UInt8(ascii: "\""):
                form = .quoted
                continue
            case UInt8(ascii: " "): continue
            case ..<0x20, 0x7F...: return .doubtful
            default: break
            }
            isAtStart = false
        }
        return form
    }

    /// Whether a spreadsheet may split at the byte, or read it as a quote.
    private static func separates(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "\""), UInt8(ascii: "\t"), UInt8(ascii: "\r"),
            UInt8(ascii: "\n"):
            true
        default: false
        }
    }

    private static func appendQuoted(_ text: some Collection<UInt8>, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text {
            if byte == UInt8(ascii: "\"") { bytes.append(byte) }
            bytes.append(byte)
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

extension String {
    /// Whether this is a decimal number as the service writes them.
    fileprivate var isNumber: Bool {
        let digits = utf8.first == UInt8(ascii: "-") ? utf8.dropFirst() : utf8[...]
        let parts = digits.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return (1...2).contains(parts.count)
            && parts.allSatisfy { part in !part.isEmpty && part.allSatisfy { (0x30...0x39).contains($0) } }
    }

    /// The text with a `'` before each beginning of a formula.
    fileprivate var withoutFormulas: String {
        var text = ""
        var isAtStart = true
        for (index, scalar) in zip(unicodeScalars.indices, unicodeScalars) {
            let isFirst = index == startIndex
            if isAtStart, scalar.beginsFormula || (isFirst && ["\t", "\r"].contains(scalar)) { text += "'" }
            if scalar.endsCell {
                isAtStart = true
            } else if !scalar.isUnseen, scalar != "\"" {
                isAtStart = false
            }
            text.unicodeScalars.append(scalar)
        }
        return text
    }
}

extension Unicode.Scalar {
    /// Whether a spreadsheet reads text with this beginning as a formula. East Asian ones also know the full-width and
    /// small forms.
    fileprivate var beginsFormula: Bool {
        switch self {
        case "=", "+", "-", "@", "\u{FF1D}", "\u{FF0B}", "\u{FF0D}", "\u{FF20}", "\u{FE66}", "\u{FE62}", "\u{FE63}",
            "\u{FE6B}", "\u{2212}":
            true
        default: false
        }
    }

    /// Whether a spreadsheet may begin another cell after it.
    fileprivate var endsCell: Bool {
        switch self {
        case ";", "\u{FF1B}", "\t", "\n", "\r", "\u{0B}", "\u{0C}", "\u{85}", "\u{2028}", "\u{2029}": true
        default: false
        }
    }

    /// White space, and characters that a spreadsheet strips or does not show.
    fileprivate var isUnseen: Bool {
        switch properties.generalCategory {
        case .control, .format, .spaceSeparator, .lineSeparator, .paragraphSeparator, .nonspacingMark, .surrogate,
            .unassigned, .privateUse:
            true
        default: properties.isWhitespace || properties.isDefaultIgnorableCodePoint
        }
    }
}
