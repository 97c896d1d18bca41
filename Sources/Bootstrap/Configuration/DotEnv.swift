/// The variables of an `.env` file, read as Laravel's phpdotenv 5 reads it, so that one file serves both.
///
/// The file has `NAME=value`, `export`, comments and blank lines, with LF or CRLF. An unquoted value ends at a space or
/// `#`. Single quotes keep everything. Double quotes know `\n \r \t \f \v \" \\ \$` and may contain line breaks.
/// `${OTHER}` outside single quotes is a variable of the real environment, else of an earlier line, else it stays as it
/// is. A name without `=` has no value.
package struct DotEnv: Sendable, Equatable {
    /// Values by name; the last line of a name counts.
    package private(set) var values: [String: String] = [:]

    /// - Parameters:
    ///   - text: The file's text.
    ///   - environment: The process's real environment, for references.
    /// - Throws: ``ConfigurationError`` when lines are malformed, with their numbers and without their text.
    package init(parsing text: String, environment: [String: String] = [:]) throws(ConfigurationError) {
        var scanner = DotEnvScanner(text)
        var problems: [String] = []
        while !scanner.isAtEnd {
            let line = scanner.line
            do throws(DotEnvScanner.Fault) {
                guard let (name, value) = try scanner.entry(resolving: { environment[$0] ?? values[$0] }) else {
                    continue
                }
                values[name] = value
            } catch {
                problems.append(".env line \(line): \(error.rawValue)")
                scanner.skipLine()
            }
        }
        if !problems.isEmpty { throw ConfigurationError(problems: problems) }
    }
}

/// Reads an `.env` text from left to right, entry by entry; the grammar is phpdotenv's `EntryParser`.
struct DotEnvScanner {
    /// What is wrong with a line.
    enum Fault: String, Error {
        case name = "the name is not made of letters, digits, '_' and '.'"
        case quote = "a closing quote is missing"
        case escape = "an unknown escape sequence in double quotes"
        case trailing = "text after the value; a value with spaces needs quotes"
    }

    private let text: [Unicode.Scalar]
    private var index = 0
    /// The number of the current line, from 1.
    private(set) var line = 1

    init(_ text: String) {
        let scalars = Array(text.unicodeScalars)
        self.text = scalars.first == "\u{FEFF}" ? Array(scalars.dropFirst()) : scalars
    }

    var isAtEnd: Bool { index >= text.count }

    /// Reads one line, or the lines of one quoted value; `nil` for a blank line, a comment and a name without a value.
    mutating func entry(resolving: (String) -> String?) throws(Fault) -> (name: String, value: String)? {
        skipSpaces()
        guard let first = peek, !isNewline(first), first != "#" else {
            skipLine()
            return nil
        }
        guard let name = try name() else {
            skipLine()
            return nil
        }
        skipSpaces()
        let value =
            switch peek {
            case "'": try singleQuoted()
            case "\"": try doubleQuoted(resolving)
            default: unquoted(resolving)
            }
        skipSpaces()
        if let next = peek, !isNewline(next), next != "#" { throw .trailing }
        skipLine()
        return (name, value)
    }

    /// Moves to the beginning of the next line.
    mutating func skipLine() {
        while let next = advance() {
            if next == "\n" || next == "\r" && peek != "\n" { return }
        }
    }

    /// Reads the name and its `=`; `nil` when the line has no `=`.
    private mutating func name() throws(Fault) -> String? {
        var name = ""
        while let next = peek, next != "=", !isNewline(next) {
            name.unicodeScalars.append(next)
            index += 1
        }
        let hasValue = peek == "="
        name = String(name.trimmingSuffix { $0.isWhitespace })
        if name.hasPrefix("export"), let space = name.dropFirst(6).first, space.isWhitespace {
            name = String(name.dropFirst(6).drop { $0.isWhitespace })
        }
        guard !name.isEmpty, name.unicodeScalars.allSatisfy(isNameScalar) else { throw .name }
        if hasValue { index += 1 }
        return hasValue ? name : nil
    }

    private mutating func unquoted(_ resolving: (String) -> String?) -> String {
        var value = ""
        while let next = peek, !next.properties.isWhitespace, next != "#" {
            index += 1
            value += next == "$" ? reference(resolving) : String(next)
        }
        return value
    }

    private mutating func singleQuoted() throws(Fault) -> String {
        index += 1
        var value = ""
        while let next = peek, !isNewline(next) {
            index += 1
            if next == "'" { return value }
            value.unicodeScalars.append(next)
        }
        throw .quote
    }

    private mutating func doubleQuoted(_ resolving: (String) -> String?) throws(Fault) -> String {
        index += 1
        var value = ""
        while let next = advance() {
            switch next {
            case "\"": return value
            case "$": value += reference(resolving)
            case "\\":
                guard let escaped = advance() else { throw .quote }
                guard let meaning = Self.escapes[escaped] else { throw .escape }
                value.unicodeScalars.append(meaning)
            default: value.unicodeScalars.append(next)
            }
        }
        throw .quote
    }

    /// Characters after `\`, as PHP's `stripcslashes` reads those that phpdotenv allows.
    private static let escapes: [Unicode.Scalar: Unicode.Scalar] = [
        "\"": "\"", "\\": "\\", "$": "$", "f": "\u{0C}", "n": "\n", "r": "\r", "t": "\t", "v": "\u{0B}",
    ]

    /// The meaning of a `$` that was just read: the value of `${NAME}`, or the character itself.
    private mutating func reference(_ resolving: (String) -> String?) -> String {
        guard peek == "{", let end = text[index...].firstIndex(of: "}") else { return "$" }
        let scalars = text[(index + 1)..<end]
        guard !scalars.isEmpty, scalars.allSatisfy(isNameScalar),
            let value = resolving(String(scalars.map(Character.init)))
        else { return "$" }
        index = end + 1
        return value
    }

    private var peek: Unicode.Scalar? { isAtEnd ? nil : text[index] }

    private mutating func advance() -> Unicode.Scalar? {
        guard let next = peek else { return nil }
        index += 1
        if next == "\n" || next == "\r" && peek != "\n" { line += 1 }
        return next
    }

    private mutating func skipSpaces() {
        while let next = peek, next.properties.isWhitespace, !isNewline(next) { index += 1 }
    }

    private func isNewline(_ scalar: Unicode.Scalar) -> Bool { scalar == "\n" || scalar == "\r" }

    private func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9", "_", ".": true
        default: false
        }
    }
}

extension String {
    fileprivate func trimmingSuffix(while predicate: (Character) -> Bool) -> Substring {
        var end = endIndex
        while end > startIndex, predicate(self[index(before: end)]) { end = index(before: end) }
        return self[..<end]
    }
}
