import Bootstrap
import HTTPSupport
import Logging
import Postgres
import Storage

/// Everything that configures the webhook service (`design.md` §8).
struct WebhookSettings {
    var server: HTTPServerSettings
    var database: DatabaseSettings
    var keys: WebhookKeys
    var bodyReader: BodyReader
    var maxQueuedEvents: Int
    /// How old an event may be.
    var retention: Duration
    var logLevel: Logger.Level

    init(reading settings: SettingsReader) {
        server = HTTPServerSettings(reading: settings, prefix: "WEBHOOK", defaultPort: 8081)
        database = DatabaseSettings(reading: settings, applicationName: "webhook-api")
        // A table that somebody locks whole must not hold the sender until its own timeout (`litellm.md` §3).
        database.connection.lockTimeout = .seconds(3)
        keys = WebhookKeys(reading: settings)
        bodyReader = BodyReader(reading: settings, prefix: "WEBHOOK")
        maxQueuedEvents = settings.int("WEBHOOK_MAX_QUEUED_EVENTS", in: 1...10_000_000, default: 20_000)
        retention = .seconds(86_400 * settings.int("METERING_RETENTION_DAYS", in: 1...36_500, default: 400))
        logLevel = settings.logLevel()
    }
}
