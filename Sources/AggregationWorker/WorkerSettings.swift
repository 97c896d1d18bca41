import Bootstrap
import HTTPSupport
import Logging
import Postgres

/// The settings of aggregation-worker.
struct WorkerSettings {
    var database: DatabaseSettings
    /// How long events are kept, in days.
    var retentionDays: Int
    /// Where `run` serves health and metrics; `nil` where it does not.
    var server: HTTPServerSettings?
    var logLevel: Logger.Level

    private static let ownURL = "WORKER_DATABASE_URL"

    /// The settings with their defaults and descriptions.
    static let table: SettingsTable =
        DatabaseSettings.table(ownURL: ownURL)
        + [
            Setting(
                "METERING_RETENTION_DAYS", .number(1...36_500), default: "400",
                "How many days events are kept; older ones are dropped, and their rollups stay."),
            Setting(
                "WORKER_HOST", .text, default: "127.0.0.1",
                "The address at which 'run' serves health and metrics; 0.0.0.0 is every IPv4 address."),
            Setting(
                "WORKER_PORT", .number(0...65535),
                "The port of health and metrics, such as 8083; they are not served where it is empty."),
            SettingsReader.logLevelSetting, SettingsReader.fileSetting,
        ]

    /// Reads ``table``.
    init(reading settings: SettingsReader) {
        database = DatabaseSettings(reading: settings, applicationName: "aggregation-worker", ownURL: Self.ownURL)
        // A window is bounded by its rows. An integrity check of all history may take hours.
        database.connection.statementTimeout = .zero
        database.connection.idleInTransactionTimeout = .seconds(300)
        retentionDays = settings.int(Self.table["METERING_RETENTION_DAYS"])
        let (host, port) = (Self.table["WORKER_HOST"], Self.table["WORKER_PORT"])
        server = settings.optionalString(port).map { _ in
            HTTPServerSettings(host: settings.string(host), port: settings.int(port.defaulting(to: "0")))
        }
        logLevel = settings.logLevel()
    }
}
