import ArgumentParser
import Foundation
import TestSupport
import UnixSignals

/// The benchmark program. It compares the services with plain PostgreSQL that does the same work.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measures the services and plain PostgreSQL in one run, and checks that no event was lost.",
        discussion: """
            BENCH_DATABASE_URL names a server whose databases bench_… are made and deleted; 'make bench' starts one. \
            The exit code is 1 if an acknowledged event is not stored or is counted wrongly. A slow result is no error.
            """)

    @Option(
        help: """
            How many events the database holds at first. Reports are measured with each further number too \
            (default: 10000000,1000000,100000).
            """)
    var rows: RowCounts?

    @Option(help: "How many rounds are measured (default: 5).")
    var pairs: Int?

    @Option(help: "Seconds of one measurement (default: 3).")
    var seconds: Int?

    @Option(help: "Only benchmarks with one of these words in their names, and their references.")
    var only: String?

    @Flag(help: "Check that everything works: 100,000 events, one round, one second, unless given.")
    var quick = false

    @Flag(help: "Fill the database again, although one of this size and schema exists.")
    var fresh = false

    @Flag(help: "Fill the database with bursts of fifty calls of one user.")
    var bursty = false

    @Flag(help: "List the benchmarks and the ratios, and measure nothing.")
    var list = false

    func validate() throws {
        guard pairs ?? 1 > 0, seconds ?? 1 > 0 else {
            throw ValidationError("--pairs and --seconds are 1 or more.")
        }
        guard !Schedule(only: only).benchmarks.isEmpty else {
            throw ValidationError("--only \(only ?? ""): no benchmark has that in its name; see --list.")
        }
    }

    func run() async throws {
        guard !list else {
            Catalogue.benchmarks.forEach { Self.show("\($0.name)\n    \($0.summary)") }
            Catalogue.ratios.forEach { Self.show("\($0.name)") }
            return
        }
        let counts = rows?.values ?? (quick ? [100_000] : [10_000_000, 1_000_000, 100_000])
        for (index, count) in counts.enumerated() {
            let schedule = index == 0 ? Schedule(only: only) : Schedule(only: only).of(Catalogue.reports)
            guard !schedule.benchmarks.isEmpty else { continue }
            let options = BenchRun.Options(
                rows: count, pairs: pairs ?? (quick ? 1 : 5), seconds: seconds ?? (quick ? 1 : 3), isFresh: fresh,
                isBursty: bursty, schedule: schedule)
            try await measure(options, into: index == 0 ? "bench.json" : "bench-\(count).json")
        }
    }

    private func measure(_ options: BenchRun.Options, into name: String) async throws {
        let run = Task { try await BenchRun(options, log: Self.show).run() }
        // A run that is stopped ends its processes and deletes its database.
        let watch = Task {
            for await _ in await UnixSignalsSequence(trapping: .sigint, .sigterm) { run.cancel() }
        }
        defer { watch.cancel() }
        let report = try await run.value
        Self.show("\n\(ReportTable(report))")
        let file = Checkout.root.appending(path: ".local/\(name)")
        try report.json.write(to: file)
        Self.show("\n\(file.path())")
    }

    /// Prints without delay, also into a pipe.
    @Sendable private static func show(_ text: String) {
        print(text)
        fflush(nil)
    }
}

/// Numbers of rows, separated by commas.
struct RowCounts: ExpressibleByArgument {
    let values: [Int]

    init?(argument: String) {
        let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        guard values.allSatisfy({ $0 ?? 0 >= 1_000 }) else { return nil }
        self.values = values.compactMap(\.self)
    }
}
