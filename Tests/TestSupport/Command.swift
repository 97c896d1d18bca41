internal import Foundation

/// A program that runs to its end.
package enum Command {
    /// The program could not be started, or ended with something else than 0.
    package struct Failure: Error, CustomStringConvertible {
        package var program: String
        package var exitCode: Int32
        /// What it wrote, to standard output and standard error.
        package var output: String

        package var description: String { "\(program) ended with \(exitCode): \(output)" }
    }

    /// What `program` wrote to standard output and standard error, without the last line's end.
    ///
    /// Throws ``Failure``, and what Foundation throws where the program cannot be started.
    @discardableResult
    package static func run(
        _ program: String, _ arguments: [String], environment: [String: String]? = nil,
        within deadline: Duration = .seconds(120)
    ) async throws -> String {
        let process = try ServiceProcess(path: program, arguments: arguments, environment: environment)
        let exitCode = try await process.waitForExit(within: deadline)
        let output = process.output.trimmingCharacters(in: .newlines)
        guard exitCode == 0 else { throw Failure(program: program, exitCode: exitCode, output: output) }
        return output
    }
}
