/// The variables of an `.env` file, read as Laravel's phpdotenv 5 reads it, so that one file serves both (`design.md` §8).
///
/// `NAME=value`, `export`, comments, blank lines, LF or CRLF. An unquoted value ends at white space or `#`; single quotes
/// keep everything; double quotes know `\n \r \t \f \v \" \\ \$` and may run over lines. `${OTHER}` outside single quotes
/// is a variable of the real environment, else of an earlier line, else stays as it is. A name without `=` is no value.
package struct DotEnv: Sendable, Equatable {
    /// Values by name; the last line of a name counts.
    package private(set) var values: [String: String] = [:]

    /// - Parameters:
    ///   - text: The file's text.
    ///   - environment: The process's real environment, for references.
    /// - Throws: ``ConfigurationError`` with the number of every malformed line, never its text.
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
