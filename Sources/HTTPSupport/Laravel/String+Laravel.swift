/// Texts as Laravel makes them of others, by which it names things.
extension String {
    /// `Str::slug`: ASCII words in lower case with `separator`, `-` or `_`, between them. `@` becomes `at`; other signs
    /// are dropped.
    package func slug(_ separator: Unicode.Scalar) -> String {
        let flipped: Unicode.Scalar = separator == "-" ? "_" : "-"
        var words = ""
        for scalar in unicodeScalars {
            switch scalar {
            case flipped: words.unicodeScalars.append(separator)
            case "@": words += "\(separator)at\(separator)"
            case "\t", "\n", "\r", " ": words += " "
            case separator: words.unicodeScalars.append(scalar)
            case "a"..."z", "A"..."Z", "0"..."9": words.unicodeScalars.append(scalar)
            default:
                let replacement = scalar.isASCII ? nil : ASCIILetters.replacement(of: scalar)
                words += (replacement ?? "").replacing(String(flipped), with: String(separator))
            }
        }
        return words.lowercased().split { $0 == " " || $0 == Character(separator) }.joined(separator: String(separator))
    }

    /// `Str::snake`: in lower case, with `_` before each capital of ASCII and without white space. Signs and letters of
    /// other alphabets stay.
    package var snake: String {
        let isLower = !isEmpty && unicodeScalars.allSatisfy { ("a"..."z").contains($0) }
        if isLower { return self }
        var (words, isAtStart) = (String.UnicodeScalarView(), true)
        for scalar in unicodeScalars {
            // PHP's `ucwords` knows six white spaces and 26 letters.
            let isLetter = ("a"..."z").contains(scalar)
            let capital = isAtStart && isLetter ? Unicode.Scalar(scalar.value - 32) ?? scalar : scalar
            isAtStart = [" ", "\t", "\r", "\n", "\u{C}", "\u{B}"].contains(scalar)
            if capital.properties.isWhitespace { continue }
            if ("A"..."Z").contains(capital), !words.isEmpty { words.append("_") }
            words.append(capital)
        }
        return String(words).lowercased()
    }
}
