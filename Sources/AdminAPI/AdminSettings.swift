import Bootstrap
import HTTPSupport
import Logging
import Postgres

/// Everything that configures the JSON API (`design.md` §8).
struct AdminSettings: ServiceSettings {
    var server: HTTPServerSettings
    var origins: AllowedOrigins
    var database: DatabaseSettings
    var bodies: BodyReader
    /// `nil` where only tokens are accepted.
    var sessions: SessionReader?
    /// After which a request is answered 504.
    var requestTimeout: Duration
    var logLevel: Logger.Level

    init(reading settings: SettingsReader) {
        server = HTTPServerSettings(reading: settings, prefix: "ADMIN", defaultPort: 8082)
        origins = AllowedOrigins(reading: settings, prefix: "ADMIN")
        database = DatabaseSettings(reading: settings, applicationName: "admin-api", ownURL: "ADMIN_DATABASE_URL")
        let times = Duration.milliseconds(100) ... .seconds(600)
        database.connection.statementTimeout = settings.duration(
            "ADMIN_STATEMENT_TIMEOUT", in: times, default: .seconds(15))
        database.connection.lockTimeout = .seconds(5)
        bodies = BodyReader(reading: settings, prefix: "ADMIN", limit: 1 << 20)
        sessions = SessionReader(reading: settings)
        requestTimeout = settings.duration("ADMIN_REQUEST_TIMEOUT", in: times, default: .seconds(20))
        logLevel = settings.logLevel()
    }
}
