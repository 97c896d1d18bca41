import ArgumentParser
import Bootstrap
import Domain
import HTTPSupport
import Logging

/// The program webhook-api, which stores the proxy's events and answers after COMMIT.
@main
struct WebhookAPI: ServiceCommand {
    static let configuration = CommandConfiguration(
        commandName: "webhook-api",
        abstract: "Serves POST /api/webhook/litellm.",
        discussion: "Configured by environment variables or .env; see .env.example.")

    @OptionGroup var flags: ServiceFlags

    func serve(_ settings: WebhookSettings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws {
        try await WebhookService(settings: settings, logger: logger, metrics: metrics, now: { .now }).run()
    }
}
