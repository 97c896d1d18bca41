internal import Foundation

/// The output of the command lines. It escapes what comes from data, so that no name, e-mail or message can change the
/// colour, the position or the meaning of what an operator reads.
package enum Terminal {
    /// Writes one line to standard output. A line break in it is escaped too.
    package static func print(_ line: String) {
        Swift.print(line.visible)
    }

    /// Writes lines to standard output, each made visible.
    package static func print(lines: some Sequence<String>) {
        for line in lines { print(line) }
    }

    /// Writes a JSON text to standard output. Escapes do not change its value.
    package static func print(json: String) {
        Swift.print(json.visibleJSON)
    }

    /// Writes text without escapes, such as a text with colours whose data is already ``Swift/String/visible``.
    package static func print(own text: String, terminator: String = "\n") {
        Swift.print(text, terminator: terminator)
    }

    /// Writes lines to standard error, each made visible.
    package static func complain(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).visible }
        FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
    }
}

extension String {
    /// With escapes for invisible characters that control a terminal, a line or the direction of text: control
    /// characters, line and paragraph separators, and format characters.
    ///
    /// Text from data is escaped on its way to a log or terminal. The escapes are `\\n`, `\\r`, `\\t` and `\\u{…}` with
    /// the number in hexadecimal.
    package var visible: String { escaping { "\\u{\(String($0.value, radix: 16))}" } }

    /// The same for a JSON text. Such characters occur in its strings only, where `\\uXXXX` is the same character.
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
        // The usual text is ASCII and needs no look at its scalars.
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
