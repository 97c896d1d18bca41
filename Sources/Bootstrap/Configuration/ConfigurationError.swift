/// Why a program does not start: everything that is wrong with its configuration, found in one pass.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// One sentence for each fault, which names the variable and never shows a secret.
    package let problems: [String]

    package init(problems: [String]) {
        self.problems = problems
    }

    /// One line for each fault.
    package var description: String { problems.joined(separator: "\n") }
}
