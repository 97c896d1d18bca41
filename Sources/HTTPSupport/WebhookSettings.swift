package import Bootstrap
package import Domain
package import Logging
internal import Postgres

/// Everything that configures webhook-api, for the service and for the doctor.
package struct WebhookSettings {
    /// Address, TLS, limits and clients.
    package var server: HTTPServerSettings
    /// The database.
    package var database: DatabaseSettings
    /// The keys of senders.
    package var keys: WebhookKeys
    /// The bounds of request bodies.
    package var bodyReader: BodyReader
    /// The most events that are not answered yet.
    package var maxQueuedEvents: Int
    /// How old an event may be.
    package var retention: Duration
    /// How much is kept of an error text.
    package var errorText: ErrorText
    /// The least severe level that is logged.
    package var logLevel: Logger.Level

    /// Every setting of webhook-api.
    package static let table: SettingsTable =
        HTTPServerSettings.table(prefix: "WEBHOOK", defaultPort: 8081) + DatabaseSettings.table() + WebhookKeys.table
        + BodyReader.table(prefix: "WEBHOOK") + ingest
        + [
            Setting(
                "WEBHOOK_MAX_QUEUED_EVENTS", .number(1...10_000_000), default: "20000",
                "How many events may wait for the next commit; requests over it are answered 503."),
            SettingsReader.logLevelSetting, SettingsReader.fileSetting,
        ]

    /// The settings that decide what is stored of an event.
    package static let ingest: SettingsTable = [
        Setting(
            "METERING_RETENTION_DAYS", .number(1...36_500), default: "400",
            "How many days events are kept; an event that is older on arrival is quarantined."),
        Setting(
            "METERING_ERROR_TEXT", .word(ErrorText.allCases.map(\.rawValue)), default: ErrorText.line.rawValue,
            "What is kept of an error text, which may repeat the prompt: code (class and code), line (the first line "
                + "up to the first quote or bracket, 200 characters) or full (8 KiB)."),
    ]

    /// Reads ``table``.
    package init(reading settings: SettingsReader) {
        server = HTTPServerSettings(reading: settings, prefix: "WEBHOOK", defaultPort: 8081)
        database = DatabaseSettings(reading: settings, applicationName: "webhook-api")
        // A lock on a whole table must not hold the sender until its own timeout.
        database.connection.lockTimeout = .seconds(3)
        keys = WebhookKeys(reading: settings)
        bodyReader = BodyReader(reading: settings, prefix: "WEBHOOK")
        maxQueuedEvents = settings.int(Self.table["WEBHOOK_MAX_QUEUED_EVENTS"])
        retention = Self.retention(settings)
        errorText = Self.errorText(settings)
        logLevel = settings.logLevel()
    }

    /// How much is kept of what a proxy or provider reports as an error.
    package static func errorText(_ settings: SettingsReader) -> ErrorText {
        let words = Dictionary(uniqueKeysWithValues: ErrorText.allCases.map { ($0.rawValue, $0) })
        return settings.choice(ingest["METERING_ERROR_TEXT"], of: words)
    }

    /// How long events are kept, and how old one may be on arrival.
    package static func retention(_ settings: SettingsReader) -> Duration {
        .seconds(86_400 * settings.int(ingest["METERING_RETENTION_DAYS"]))
    }
}
