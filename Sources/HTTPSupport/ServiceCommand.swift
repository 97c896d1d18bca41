package import ArgumentParser
package import Bootstrap
package import Domain
import Foundation
package import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL

/// The settings of an HTTP service, as its command needs them.
package protocol ServiceSettings {
    /// Every setting that ``init(reading:)`` reads.
    static var table: SettingsTable { get }
    init(reading settings: SettingsReader)
    var server: HTTPServerSettings { get }
    var logLevel: Logger.Level { get }
}

extension WebhookSettings: ServiceSettings {}

/// The flags of every HTTP service.
package struct ServiceFlags: ParsableArguments {
    @Flag(help: "Print the configuration in force, without secrets, and exit.")
    var printConfig = false

    @Flag(help: "Print the settings that this program reads, one JSON object a line, and exit.")
    var listSettings = false

    @Flag(help: "Ask the running service of this configuration whether it is alive; exit code 0 or 1.")
    var checkHealth = false

    /// The flags, read from the command line.
    package init() {}
}

/// An HTTP service as a program. It is configured by the environment, and serves until a signal ends it.
package protocol ServiceCommand: AsyncParsableCommand {
    associatedtype Settings: ServiceSettings
    var flags: ServiceFlags { get }
    /// Serves until SIGTERM or SIGINT.
    ///
    /// - Throws: The error that ended the service.
    func serve(_ settings: Settings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws
}

extension ServiceCommand {
    /// Does what the flags say.
    ///
    /// - Throws: `ExitCode` 1 when the service cannot start or fails. The reason is in the log, or on standard error
    ///   before there is a log.
    package func run() async throws {
        if flags.listSettings { return print(Settings.table.json) }
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
            try await checkHealth(settings)
            return
        }
        let (logger, metrics) = Telemetry.bootstrap(
            label: Self.configuration.commandName ?? "", level: settings.logLevel)
        reader.log(to: logger)
        do {
            try await serve(settings, logger, metrics)
        } catch {
            // An `AppError` says what to do. The description of a driver's error contains no values.
            let reason = (error as? AppError)?.message ?? String(describing: error)
            logger.critical("stopped", metadata: ["reason": "\(reason)"])
            throw ExitCode(1)
        }
    }

    private func checkHealth(_ settings: Settings) async throws {
        do {
            try await HealthProbe.requireLive(settings.server)
            print("healthy")
        } catch {
            print("unhealthy: \(error.message)")
            throw ExitCode(1)
        }
    }
}

/// A container's health check, asked from inside: whether the service of this configuration answers.
package enum HealthProbe {
    private typealias Connection = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    /// Asks `/health/live`.
    ///
    /// It does not ask `/health/ready`, because a proxy that drops an unready service answers 404 in its place, and
    /// senders do not repeat a request after a 4xx. The service itself answers 503 while its database is away.
    ///
    /// - Throws: ``AppError`` `.unavailable` when there is no answer within `limit`.
    package static func requireLive(
        _ settings: HTTPServerSettings, within limit: Duration = .seconds(3)
    ) async throws(AppError) {
        let host = loopback(for: settings.host)
        let isLive = try? await withDeadline(limit) { try await ask(host, settings) == .ok }
        guard isLive == true else {
            throw AppError(.unavailable, "no answer from /health/live on \(host):\(settings.port)")
        }
    }

    /// The address at which this machine reaches a service that listens on `host`.
    package static func loopback(for host: String) -> String {
        switch host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "::1"
        default: host
        }
    }

    private static func ask(_ host: String, _ settings: HTTPServerSettings) async throws -> HTTPResponseStatus? {
        // The certificate names the service's public address, not this one. Nothing secret is sent.
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateVerification = .none
        let context = settings.tls == nil ? nil : try NIOSSLContext(configuration: tls)
        let connection = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: host, port: settings.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let context {
                        try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
                    }
                    try pipeline.addHTTPClientHandlers()
                    return try Connection(wrappingChannelSynchronously: channel)
                }
            }
        return try await connection.executeThenClose { inbound, outbound in
            let headers: HTTPHeaders = ["host": host, "connection": "close"]
            try await outbound.write(
                .head(HTTPRequestHead(version: .http1_1, method: .GET, uri: "/health/live", headers: headers)))
            try await outbound.write(.end(nil))
            for try await case .head(let head) in inbound { return head.status }
            return nil
        }
    }
}
