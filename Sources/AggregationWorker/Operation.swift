import ArgumentParser
import Bootstrap
import Domain
import Logging
import Postgres
import Storage

/// What every command shares: settings, the database after its gates, and failures reported in one line.
struct Operation: Sendable {
    let settings: WorkerSettings
    let pool: ConnectionPool
    let logger: Logger
    let now: @Sendable () -> Timestamp

    /// Does `body` with a pool of the ordinary role, or of the stronger one (`MIGRATE_DATABASE_URL`).
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error; the `ExitCode` that `body` throws.
    static func run(privileged: Bool = false, _ body: (Operation) async throws -> Void) async throws {
        do {
            let settings = try SettingsReader.load().read(WorkerSettings.init(reading:))
            let (logger, _) = Telemetry.bootstrap(label: "aggregation-worker", level: settings.logLevel)
            let database = settings.database
            try await ConnectionPool.withPool(
                privileged ? database.migration : database.connection, limits: database.limits, logger: logger
            ) { pool in
                let operation = Operation(settings: settings, pool: pool, logger: logger, now: { .now })
                try await operation.requireSchema()
                try await body(operation)
            }
        } catch let error as ExitCode {
            throw error
        } catch {
            Terminal.complain("aggregation-worker: \(explanation(of: error))")
            throw ExitCode(1)
        }
    }

    /// The gate: our schema must be current and the database ours.
    private func requireSchema() async throws {
        try await pool.withConnection { connection in
            try Migrator.requireCurrent(connection)
            try Installation.require(connection)
        }
    }

    private static func explanation(of error: any Error) -> String {
        switch error {
        case let error as AppError: error.message
        case let error as PostgresError where error.isRowSecurity:
            "Row-level security hides rows from the database role: 'codexflow doctor' says which and what to do."
        // An operator may see what a client may not; the values stay hidden all the same.
        case let error as PostgresError: String(reflecting: error)
        default: String(describing: error)
        }
    }
}
