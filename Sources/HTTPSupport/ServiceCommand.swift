package import ArgumentParser
package import Bootstrap
internal import Domain
import Foundation
package import Logging

/// The settings of an HTTP service, as its command needs them.
package protocol ServiceSettings {
    init(reading settings: SettingsReader)
    var server: HTTPServerSettings { get }
    var logLevel: Logger.Level { get }
}

extension WebhookSettings: ServiceSettings {}

/// The flags that every HTTP service has.
package struct ServiceFlags: ParsableArguments {
    @Flag(help: "Print the configuration in force, without secrets, and exit.")
    var printConfig = false

    @Flag(help: "Ask the running service of this configuration whether it is alive; exit code 0 or 1.")
    var checkHealth = false

    package init() {}
}

/// An HTTP service as a program: configured by the environment, it serves until it is told to stop.
package protocol ServiceCommand: AsyncParsableCommand {
    associatedtype Settings: ServiceSettings
    var flags: ServiceFlags { get }
    /// Serves until SIGTERM or SIGINT.
    func serve(_ settings: Settings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws
}

extension ServiceCommand {
    /// Does what the flags say.
    ///
    /// - Throws: `ExitCode` 1 after the reason was written, to the log or where there is none to standard error.
    package func run() async throws {
        let settings: Settings
        let reader: SettingsReader
        do {
            reader = try SettingsReader.load()
            settings = try reader.read(Settings.init(reading:))
        } catch let error as ConfigurationError {
            FileHandle.standardError.write(Data("\(error)\n".utf8))
            throw ExitCode(1)
        }
        if flags.printConfig {
            reader.effective.forEach { print($0) }
            return
        }
        if flags.checkHealth {
            try await answerHealth(settings)
            return
        }
        let (logger, metrics) = Telemetry.bootstrap(
            label: Self.configuration.commandName ?? "", level: settings.logLevel)
        reader.log(to: logger)
        do {
            try await serve(settings, logger, metrics)
        } catch {
            // Our own errors say what to do; a driver's description shows no value.
            let reason = (error as? AppError)?.message ?? String(describing: error)
            logger.critical("stopped", metadata: ["reason": "\(reason)"])
            throw ExitCode(1)
        }
    }

    private func answerHealth(_ settings: Settings) async throws {
        do {
            try await HealthProbe.requireLive(settings.server)
            print("healthy")
        } catch {
            print("unhealthy: \(error.message)")
            throw ExitCode(1)
        }
    }
}
