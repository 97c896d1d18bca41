internal import ArgumentParser
internal import Bootstrap
internal import Domain
internal import Postgres

/// The failure of an operator's command, reported in one line.
package enum CommandFailure {
    /// Does `body`, and reports its failure in the name of `program`.
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error; an `ExitCode` that `body` throws.
    package static func reported<T>(by program: String, _ body: () async throws -> T) async throws -> T {
        do {
            return try await body()
        } catch let exit as ExitCode {
            throw exit
        } catch {
            Terminal.complain("\(program): \(explanation(of: error))")
            throw ExitCode(1)
        }
    }

    private static func explanation(of error: any Error) -> String {
        switch error {
        case let error as AppError: error.message
        case let error as PostgresError where error.isRowSecurity:
            "Row-level security hides rows from the database role: 'codexflow doctor' says which and what to do."
        case let error as PostgresError where error.sqlState == "42501":
            "The database role lacks a right: 'codexflow doctor' names it, 'codexflow grants' prints what gives it."
        // An operator may see what a client may not; the values stay hidden all the same.
        case let error as PostgresError: String(reflecting: error)
        default: String(describing: error)
        }
    }
}
