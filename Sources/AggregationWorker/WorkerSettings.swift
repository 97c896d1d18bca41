import Bootstrap
import Logging
import Postgres

/// Everything that configures the worker (`design.md` §8).
struct WorkerSettings {
    var database: DatabaseSettings
    /// How long events are kept, in days.
    var retentionDays: Int
    var logLevel: Logger.Level

    init(reading settings: SettingsReader) {
        database = DatabaseSettings(
            reading: settings, applicationName: "aggregation-worker", ownURL: "WORKER_DATABASE_URL")
        // A window is bounded by its rows, and a proof over all history takes its time.
        database.connection.statementTimeout = .zero
        database.connection.idleInTransactionTimeout = .seconds(300)
        retentionDays = settings.int("METERING_RETENTION_DAYS", in: 1...36_500, default: 400)
        logLevel = settings.logLevel()
    }
}
