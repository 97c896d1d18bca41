package import Logging
package import ServiceLifecycle
internal import UnixSignals

/// Runs the services of a program until SIGTERM or SIGINT, and never longer than its orchestrator waits.
package enum ServiceRunner {
    /// Starts `services` in order and stops them in reverse: a server goes last, after what it needs.
    ///
    /// After a signal they have 20 seconds to finish what they took, then they are cancelled and have 5 more.
    /// - Throws: The error of the service that failed.
    package static func run(_ services: [any Service], logger: Logger) async throws {
        Memory.returnLargeBlocks()
        var configuration = ServiceGroupConfiguration(
            services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(20)
        configuration.maximumCancellationDuration = .seconds(5)
        try await ServiceGroup(configuration: configuration).run()
    }
}
