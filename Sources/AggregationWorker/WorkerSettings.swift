import Bootstrap
import Logging
import Postgres

/// Everything that configures the worker.
struct WorkerSettings {
    var database: DatabaseSettings
    /// How long events are kept, in days.
    var retentionDays: Int
    var logLevel: Logger.Level

    private static let ownURL = "WORKER_DATABASE_URL"

    /// Every setting of aggregation-worker.
    static let table: SettingsTable =
        DatabaseSettings.table(ownURL: ownURL)
        + [
            Setting(
                "METERING_RETENTION_DAYS", .number(1...36_500), default: "400",
                "How many days events are kept; older ones are dropped, and their rollups stay."),
            SettingsReader.logLevelSetting, SettingsReader.fileSetting,
        ]

    /// Reads ``table``.
    init(reading settings: SettingsReader) {
        database = DatabaseSettings(reading: settings, applicationName: "aggregation-worker", ownURL: Self.ownURL)
        // A window is bounded by its rows, and an integrity check of all history takes its time.
        database.connection.statementTimeout = .zero
        database.connection.idleInTransactionTimeout = .seconds(300)
        retentionDays = settings.int(Self.table["METERING_RETENTION_DAYS"])
        logLevel = settings.logLevel()
    }
}
