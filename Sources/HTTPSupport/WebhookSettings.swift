package import Bootstrap
package import Domain
package import Logging
internal import Postgres

/// Everything that configures the webhook service (`design.md` §8), for the service and for the doctor.
package struct WebhookSettings {
    package var server: HTTPServerSettings
    package var database: DatabaseSettings
    package var keys: WebhookKeys
    package var bodyReader: BodyReader
    package var maxQueuedEvents: Int
    /// How old an event may be.
    package var retention: Duration
    /// How much is kept of what a proxy says went wrong.
    package var errorText: ErrorText
    package var logLevel: Logger.Level

    package init(reading settings: SettingsReader) {
        server = HTTPServerSettings(reading: settings, prefix: "WEBHOOK", defaultPort: 8081)
        database = DatabaseSettings(reading: settings, applicationName: "webhook-api")
        // A table that somebody locks whole must not hold the sender until its own timeout (`litellm.md` §3).
        database.connection.lockTimeout = .seconds(3)
        keys = WebhookKeys(reading: settings)
        bodyReader = BodyReader(reading: settings, prefix: "WEBHOOK")
        maxQueuedEvents = settings.int("WEBHOOK_MAX_QUEUED_EVENTS", in: 1...10_000_000, default: 20_000)
        retention = Self.retention(settings)
        errorText = Self.errorText(settings)
        logLevel = settings.logLevel()
    }

    /// `METERING_ERROR_TEXT`: how much is kept of what a proxy or provider says went wrong.
    package static func errorText(_ settings: SettingsReader) -> ErrorText {
        let words = Dictionary(uniqueKeysWithValues: ErrorText.allCases.map { ($0.rawValue, $0) })
        return settings.choice("METERING_ERROR_TEXT", of: words, default: ErrorText.line.rawValue)
    }

    /// `METERING_RETENTION_DAYS`: how long events are kept, and how old one may be on arrival.
    package static func retention(_ settings: SettingsReader) -> Duration {
        .seconds(86_400 * settings.int("METERING_RETENTION_DAYS", in: 1...36_500, default: 400))
    }
}
