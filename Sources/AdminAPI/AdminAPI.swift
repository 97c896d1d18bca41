import ArgumentParser
import Bootstrap
import Domain
import HTTPSupport
import Logging

/// The JSON API: Laravel's dashboards, and what operators and finance ask.
@main
struct AdminAPI: ServiceCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin-api",
        abstract: "Serves the JSON API under /api.",
        discussion: "Configured by environment variables or .env; see .env.example.")

    @OptionGroup var flags: ServiceFlags

    func serve(_ settings: AdminSettings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws {
        try await AdminService(settings: settings, logger: logger, metrics: metrics, now: { .now }).run()
    }
}
