import Bootstrap
import Foundation
import HTTPSupport
import Postgres
import Storage

/// Everything that configures what the doctor looks at.
struct DoctorSettings {
    let webhook: WebhookSettings
    let operation: Operation
    /// `LITELLM_PROXY_URL`; a secret, as it may hold a password.
    let proxy: URL?
    /// `METERING_SILENCE`: how long no event may come.
    let silence: Duration
    /// As the operator connects.
    let database: ConnectionConfiguration
    /// As admin-api connects.
    let adminDatabase: ConnectionConfiguration
    let webhookKey: Secret?
    let previousKey: Secret?
    /// `LITELLM_MASTER_KEY`, where it is known here.
    let masterKey: Secret?

    init(reading settings: SettingsReader) {
        webhook = WebhookSettings(reading: settings)
        operation = Operation(reading: settings)
        silence = settings.duration(
            "METERING_SILENCE", in: .seconds(60) ... .seconds(2_592_000), default: .seconds(3600))
        var database = DatabaseSettings(
            reading: settings, applicationName: "codexflow", ownURL: "OPERATOR_DATABASE_URL"
        ).connection
        database.statementTimeout = .seconds(5)
        database.lockTimeout = .seconds(2)
        self.database = database
        var admin = DatabaseSettings(
            reading: settings, applicationName: "codexflow", ownURL: "ADMIN_DATABASE_URL"
        ).connection
        admin.statementTimeout = .seconds(5)
        admin.lockTimeout = .seconds(2)
        adminDatabase = admin
        webhookKey = settings.secret("LITELLM_WEBHOOK_KEY")
        previousKey = settings.secret("LITELLM_WEBHOOK_KEY_PREVIOUS")
        masterKey = settings.secret("LITELLM_MASTER_KEY")
        proxy = settings.secret("LITELLM_PROXY_URL").flatMap { text in
            let url = URL(string: text.reveal())
            guard let url, ["http", "https"].contains(url.scheme), url.host() != nil, url.user() == nil else {
                settings.reject("LITELLM_PROXY_URL", "is not an http or https URL without a password")
                return nil
            }
            return url
        }
    }
}
