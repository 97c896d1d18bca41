import Domain
import Postgres
import Storage

/// The database as handlers ask it: what is wrong with it becomes a failure that a client may know of.
struct Database: Sendable {
    let pool: ConnectionPool

    /// Runs `body` on a connection.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.timeout`; what `body` throws.
    func read<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        try await mapping { try await pool.withConnection(body) }
    }

    /// Runs `body` in a transaction that sees one state of the database.
    func snapshot<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        try await mapping { try await pool.transaction(.snapshot, body) }
    }

    /// Runs `body` in one transaction; it may run several times, and takes effect once.
    func write<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        try await mapping { try await pool.transaction(.readWrite, body) }
    }

    private func mapping<T>(_ work: () async throws -> T) async throws -> T {
        do {
            return try await work()
        } catch let error as PostgresError where error.sqlState == "57014" {
            throw AppError(.timeout, "The database took too long. Ask for less, or again later.")
        } catch let error as PostgresError {
            throw AppError(error) ?? error
        }
    }
}
