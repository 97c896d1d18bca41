import Domain
package import Logging
import Metrics
import ServiceLifecycle

/// A piece of work that a service repeats as long as it lives; one failure is logged and the next round tries again.
package struct BackgroundJob: Service {
    /// When the next round begins.
    package enum Rhythm: Sendable {
        /// So long after the end of the last.
        case pause(Duration)
        /// So that what happens just after a round has begun shows its effect within this time, if the next round takes as
        /// long as the last: as seldom as that allows, since a round costs by what it touches, which the next would touch again.
        case effect(within: Duration)

        /// The pause after a round that took so long.
        package func pause(after round: Duration) -> Duration {
            switch self {
            case .pause(let pause): pause
            case .effect(let bound): max(bound - round * 2, .milliseconds(50))
            }
        }
    }

    private let name: String
    private let rhythm: Rhythm
    private let logger: Logger
    private let work: @Sendable () async throws -> Void

    /// Work called `name`, in snake case as in its metrics.
    package init(
        _ name: String, _ rhythm: Rhythm, logger: Logger, _ work: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.rhythm = rhythm
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
                Metrics.Timer(label: "background_job_seconds", dimensions: [("work", name)]).record(duration: took)
                try? await Task.sleep(for: rhythm.pause(after: took))
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
            Counter(label: "background_job_failures_total", dimensions: [("work", name)]).increment()
            logger.warning(
                "background job failed", metadata: ["work": "\(name)", "error": "\(String(reflecting: error))"])
        }
    }
}
