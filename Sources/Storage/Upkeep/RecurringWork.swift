import Domain
package import Logging
import Metrics
import ServiceLifecycle

/// A piece of work that a service repeats as long as it lives; one failure is logged and the next round tries again.
package struct RecurringWork: Service {
    private let name: String
    private let interval: Duration
    private let logger: Logger
    private let work: @Sendable () async throws -> Void

    /// Work called `name`, in snake case as in its metrics, with `interval` between the end of a round and the next.
    package init(
        _ name: String, every interval: Duration, logger: Logger, _ work: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.interval = interval
        self.logger = logger
        self.work = work
    }

    /// Repeats until the service is asked to stop, then works once more, if the database is there: what was committed last is
    /// not left lying.
    ///
    /// - Throws: ``Installation/Mismatch``, after which no service may go on.
    package func run() async throws {
        let clock = ContinuousClock()
        try await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                let start = clock.now
                try await round()
                let took = clock.now - start
                Metrics.Timer(label: "upkeep_seconds", dimensions: [("work", name)]).record(duration: took)
                try? await Task.sleep(for: interval)
            }
        }
        try await round()
    }

    private func round() async throws {
        do {
            try await work()
        } catch let error as Installation.Mismatch {
            throw error
        } catch {
            guard !Task.isCancelled else { return }
            Counter(label: "upkeep_failures_total", dimensions: [("work", name)]).increment()
            logger.warning(
                "recurring work failed", metadata: ["work": "\(name)", "error": "\(String(reflecting: error))"])
        }
    }
}
