import ArgumentParser
import Bootstrap
import ServiceLifecycle
import Storage

/// `aggregation-worker run`
struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Rolls up again and again until SIGTERM or SIGINT; as a service.",
        discussion: """
            A signal ends it after the window of rows at hand. Where WORKER_PORT is set, it serves /health/live, \
            /health/ready and /metrics.
            """)

    @Option(help: "Longest time between two passes: 60s, 5m or 1h. A thousand new rows start one at once.")
    var every: Interval = Interval(duration: .seconds(60))

    func run() async throws {
        try await WorkerContext.run { context in
            let service = AggregationService(
                pool: context.pool, interval: every.duration, logger: context.logger, now: context.now)
            let server: [any Service] = try context.buildServer().map { [$0] } ?? []
            try await ServiceRunner.run([context.pool, service] + server, logger: context.logger)
        }
    }
}

/// A length of time on the command line, such as `60s`.
struct Interval: ExpressibleByArgument {
    let duration: Duration

    init(duration: Duration) {
        self.duration = duration
    }

    init?(argument: String) {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600]
        guard let unit = argument.last.flatMap({ units[$0] }), let count = Int64(argument.dropLast()),
            (1...86_400).contains(count)
        else { return nil }
        duration = .seconds(count * unit)
    }

    var defaultValueDescription: String { "\(duration.components.seconds)s" }
}
