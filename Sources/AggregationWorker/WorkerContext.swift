import ArgumentParser
import Bootstrap
import Domain
import HTTPSupport
import Logging
import Postgres
import Storage

/// What every command of the worker shares: settings, the database after its gates, and failures reported in one line.
struct WorkerContext: Sendable {
    let settings: WorkerSettings
    let pool: ConnectionPool
    let logger: Logger
    let metrics: PrometheusRegistry
    let now: @Sendable () -> Timestamp

    /// Does `body` with a pool of the ordinary role, or of the stronger one (`MIGRATE_DATABASE_URL`).
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error; the `ExitCode` that `body` throws.
    static func run(privileged: Bool = false, _ body: (WorkerContext) async throws -> Void) async throws {
        try await CommandFailure.reported(by: "aggregation-worker") {
            let settings = try SettingsReader.load().read(WorkerSettings.init(reading:))
            let (logger, metrics) = Telemetry.bootstrap(label: "aggregation-worker", level: settings.logLevel)
            let database = settings.database
            try await ConnectionPool.withPool(
                privileged ? database.migration : database.connection, limits: database.limits, logger: logger
            ) { pool in
                let context = WorkerContext(
                    settings: settings, pool: pool, logger: logger, metrics: metrics, now: { .now })
                try await context.requireSchema()
                try await body(context)
            }
        }
    }

    /// The gate: our schema must be current and the database ours.
    private func requireSchema() async throws {
        try await pool.withConnection { connection in
            try Migrator.requireCurrent(connection)
            try Installation.require(connection)
        }
    }
}
