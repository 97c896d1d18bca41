internal import CMalloc
package import Logging
package import ServiceLifecycle
internal import UnixSignals

/// Runs the services of a program until SIGTERM or SIGINT.
package enum ServiceRunner {
    /// Starts `services` in order and stops them in reverse order, so a server comes after what it needs.
    ///
    /// After a signal the services have 20 seconds to finish. Then they are cancelled, and have 5 more seconds. That is
    /// less than orchestrators wait.
    ///
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

/// How malloc returns memory to the system.
enum Memory {
    /// Keeps blocks of 128 KB and more outside malloc's heap, so that the memory of a large body returns to the system.
    ///
    /// glibc starts with this threshold, but raises it to the largest block that was freed, up to 32 MB (glibc manual,
    /// "Memory Allocation Tunables"). Its heaps then fragment: 64 connections that post 1 MB each take 190 MB without
    /// this line and 85 MB with it.
    static func returnLargeBlocks() {
        _ = mallopt(M_MMAP_THRESHOLD, 128 << 10)
    }
}
