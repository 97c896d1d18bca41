import ArgumentParser
import Bootstrap
import Domain
import Foundation
import Logging
import Postgres
import Storage

/// What every command shares: the time, where the migrations are, one database connection, and failures told in one line.
struct Operation: Sendable {
    let now: Timestamp
    let migrationsPath: String

    /// Does `body` with a connection of the ordinary role, or of the stronger one (`MIGRATE_DATABASE_URL`).
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error.
    static func run<T: Sendable>(
        privileged: Bool = false, _ body: @escaping @Sendable (Operation, Connection) throws -> T
    ) async throws -> T {
        do {
            let (database, path) = try SettingsReader.load().read { settings in
                (
                    DatabaseSettings(reading: settings, applicationName: "codexflow"),
                    settings.string("MIGRATIONS_PATH")
                )
            }
            let pool = ConnectionPool(
                privileged ? database.migration : database.connection, limits: PoolLimits(maxConnections: 1),
                logger: Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() }))
            let operation = Operation(now: .now, migrationsPath: MigrationsPath.resolve(configured: path))
            let result = await Result { try await pool.withConnection { try body(operation, $0) } }
            await pool.close()
            return try result.get()
        } catch {
            FileHandle.standardError.write(Data("codexflow: \(explanation(of: error))\n".utf8))
            throw ExitCode(1)
        }
    }

    private static func explanation(of error: any Error) -> String {
        switch error {
        case let error as AppError: error.message
        // An operator may see what a client may not; the values stay hidden all the same.
        case let error as PostgresError: String(reflecting: error)
        default: String(describing: error)
        }
    }
}

extension Result where Failure == any Error {
    /// What an asynchronous `body` returned or threw.
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
