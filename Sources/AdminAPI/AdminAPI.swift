import ArgumentParser
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Logging

/// The JSON API: Laravel's dashboards, and what operators and finance ask.
@main
struct AdminAPI: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin-api",
        abstract: "Serves the JSON API under /api.",
        discussion: "Configured by environment variables or .env; see .env.example.")

    @Flag(help: "Print the configuration in force, without secrets, and exit.")
    var printConfig = false

    @Flag(help: "Ask the running service of this configuration whether it is alive; exit code 0 or 1.")
    var checkHealth = false

    func run() async throws {
        let settings: AdminSettings
        let reader: SettingsReader
        do {
            reader = try SettingsReader.load()
            settings = try reader.read(AdminSettings.init(reading:))
        } catch let error as ConfigurationError {
            FileHandle.standardError.write(Data("\(error)\n".utf8))
            throw ExitCode(1)
        }
        if printConfig {
            reader.effective.forEach { print($0) }
            return
        }
        if checkHealth {
            try await answerHealth(settings)
            return
        }
        let (logger, metrics) = Telemetry.bootstrap(label: "admin-api", level: settings.logLevel)
        reader.log(to: logger)
        do {
            try await AdminService(settings: settings, logger: logger, metrics: metrics, now: { .now }).run()
        } catch {
            logger.critical(
                "stopped", metadata: ["reason": "\((error as? AppError)?.message ?? String(describing: error))"])
            throw ExitCode(1)
        }
    }

    private func answerHealth(_ settings: AdminSettings) async throws {
        do {
            try await HealthProbe.requireLive(settings.server)
            print("healthy")
        } catch {
            print("unhealthy: \(error.message)")
            throw ExitCode(1)
        }
    }
}
