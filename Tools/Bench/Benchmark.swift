/// One measurement. A benchmark counts what the database holds afterwards, so a fast wrong result is an error.
protocol Benchmark: Sendable {
    /// Lower case with hyphens. Ratios and `--only` refer to it.
    var name: String { get }
    /// One line for a reader of the table.
    var summary: String { get }

    /// Measures once, for about `seconds`, after a warm-up.
    ///
    /// - Throws: ``WrongResult`` when the database does not hold what was acknowledged; ``PostgresError``.
    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement
}

/// The result of one measurement.
struct Measurement: Codable, Sendable, Equatable {
    /// Events, rows or transactions a second.
    var rate: Double
    /// How many of them there were during the measurement.
    var count: Int
    /// Milliseconds of a request or transaction.
    var meanLatency: Double?
    var medianLatency: Double?
    var latency99: Double?
    /// Microseconds of processor time for an event: of the service (or of this program in its place), of all processes
    /// of PostgreSQL, and of the load generator.
    var serviceCPU: Double?
    var postgresCPU: Double?
    var clientCPU: Double?
    /// The peak memory of the service, in bytes (`VmHWM`).
    var peakMemory: Int?
    /// The mean number of events in a transaction.
    var batchEvents: Double?
}

/// A measurement and its round.
struct Sample: Codable, Sendable, Equatable {
    let benchmark: String
    /// From 1.
    let round: Int
    let measurement: Measurement
    /// What else the machine did meanwhile.
    let noise: MachineNoise
}

/// The database does not hold what was acknowledged, so the figures of the run mean nothing.
struct WrongResult: Error, CustomStringConvertible {
    let description: String

    /// - Throws: ``WrongResult`` unless `isRight`.
    static func require(_ isRight: Bool, _ description: @autoclosure () -> String) throws {
        guard isRight else { throw WrongResult(description: description()) }
    }
}

/// All benchmarks, in the order of a round, and all ratios. A new benchmark is a type and a line here.
enum Catalogue {
    static let benchmarks: [any Benchmark] =
        [
            NaiveBenchmark("naive", .uniform, "pgbench, 64 clients: SELECT user, INSERT log, two counter upserts"),
            HTTPBenchmark("singles-1", .documented, connections: 1, "one documented event (0.3 KB) a request"),
            HTTPBenchmark("singles-16", .documented, connections: 16, "the same on 16 connections"),
            HTTPBenchmark("singles-64", .documented, connections: 64, "the same on 64 connections"),
            HTTPBenchmark("singles-64-litellm", .trimmed, connections: 64, "one LiteLLM event (2 KB) a request"),
            NaiveBenchmark("naive-hot", .zipf, "naive, Zipf(1.3) users"),
            HTTPBenchmark("singles-64-hot", .documented, connections: 64, people: .zipf, "singles-64, Zipf(1.3) users"),
            WriterBenchmark("statements-1", connections: 1, "the statements of ingest, from memory, one connection"),
            WriterBenchmark("statements-2", connections: 2, "the same on two connections"),
            HTTPBenchmark("arrays-2k", .trimmed, events: 100, connections: 16, "100 LiteLLM events of 2 KB a request"),
            HTTPBenchmark(
                "arrays-13k", .captured, events: 100, connections: 16, "100 LiteLLM events as captured, 13 KB"),
            HTTPBenchmark(
                "arrays-2k-hot", .trimmed, events: 100, connections: 16, people: .zipf, "arrays-2k, Zipf(1.3) users"),
            CopyBenchmark("copy", "COPY of 20,000 rows into api_logs, two connections"),
            WriterBenchmark(
                "statements-1-rollup", connections: 1, isRollingUp: true, "statements-1 while the worker rolls up"),
            AuthorizeBenchmark("authorize-1", connections: 1),
            AuthorizeBenchmark("authorize-16", connections: 16),
            AuthorizeBenchmark("authorize-64", connections: 64),
            RollupBenchmark("rollup", "200,000 pending events, rolled up by a pass of the worker"),
            RollupBenchmark("rollup-bare", isBare: true, "the same by one INSERT … SELECT … GROUP BY … ON CONFLICT"),
        ]
        + reports
        + ReadQuestion.all.flatMap { question in
            [1, 16].map { ReadBenchmark("read-\(question.name)-\($0)", question, connections: $0) }
        } + PageBenchmark.Page.allCases.flatMap { page in [1, 4].map { PageBenchmark(page, readers: $0) } }
        + ReadQuestion.all.flatMap { question in
            [
                ReadBenchmark("read-\(question.name)-1-busy", question, connections: 1, .arriving(5_000)),
                ReadBenchmark("read-\(question.name)-1-100k", question, connections: 1, .pending(100_000)),
            ]
        } + [
            ExportBenchmark("export", "the heavy user's logs as Laravel's CSV, over HTTP; rows a second"),
            ExportBenchmark("export-copy", isCopy: true, "the same by psql's \\copy"),
        ]

    /// Queries of dashboards: with as many pending logs as a worker leaves that is late or runs once a minute, and with
    /// as many as a running worker leaves.
    static let reports: [any Benchmark] =
        ReportQuestion.all.map { ReportBenchmark("report-\($0.name)", $0, pending: $0.name == "plain" ? nil : 60_000) }
        + ReportQuestion.all.filter { $0.name != "plain" }.map {
            ReportBenchmark("report-\($0.name)-1k", $0, pending: 1_000)
        }

    static let ratios = [
        Ratio("singles-64", to: "naive", aim: 3.5),
        Ratio("singles-64-litellm", to: "naive"),
        Ratio("singles-64-hot", to: "naive-hot"),
        Ratio("arrays-2k", to: "naive", aim: 12),
        Ratio("arrays-13k", to: "naive", aim: 7),
        Ratio("arrays-2k", to: "statements-2", aim: 0.6),
        Ratio("arrays-13k", to: "statements-2", aim: 0.6),
        Ratio("arrays-2k", to: "copy"),
        Ratio("statements-2", to: "copy"),
        Ratio("statements-1-rollup", to: "statements-1", aim: 0.85),
        Ratio("rollup", to: "rollup-bare", aim: 0.7),
        Ratio("report-series-day", to: "report-plain", aim: 50),
        Ratio("report-series-day-1k", to: "report-plain", aim: 50),
        Ratio("export", to: "export-copy", aim: 0.4),
    ]
}

/// The benchmarks of a run and their order. Compared benchmarks are neighbours, because the speed of a machine drifts.
struct Schedule: Sendable {
    /// The benchmarks of the run, each once.
    let benchmarks: [any Benchmark]
    let ratios: [Ratio]

    /// All benchmarks, or those whose names contain one of the words of `text`, with their references. Commas separate
    /// the words.
    init(
        only text: String? = nil, of benchmarks: [any Benchmark] = Catalogue.benchmarks,
        ratios: [Ratio] = Catalogue.ratios
    ) {
        guard let text else {
            (self.benchmarks, self.ratios) = (benchmarks, ratios)
            return
        }
        let words = text.split(separator: ",")
        let wanted = Set(benchmarks.map(\.name).filter { name in words.contains { name.contains($0) } })
        let kept = ratios.filter { wanted.contains($0.numerator) }
        let names = wanted.union(kept.map(\.denominator))
        self.ratios = kept
        self.benchmarks = benchmarks.filter { names.contains($0.name) }
    }

    /// The part of the schedule with `benchmarks` only.
    func of(_ benchmarks: [any Benchmark]) -> Schedule {
        let names = Set(benchmarks.map(\.name))
        return Schedule(
            of: self.benchmarks.filter { names.contains($0.name) },
            ratios: ratios.filter { names.contains($0.numerator) && names.contains($0.denominator) })
    }

    /// One round: each benchmark, and right before it what it is compared with, unless one of the two before is that.
    var round: [any Benchmark] {
        var order: [any Benchmark] = []
        for benchmark in benchmarks {
            for ratio in ratios where ratio.numerator == benchmark.name {
                guard !order.suffix(2).contains(where: { $0.name == ratio.denominator }),
                    let reference = benchmarks.first(where: { $0.name == ratio.denominator })
                else { continue }
                order.append(reference)
            }
            order.append(benchmark)
        }
        return order
    }
}

/// One benchmark's rate divided by another's.
struct Ratio: Sendable {
    let numerator: String
    let denominator: String
    /// The least value to reach; `nil` if the ratio is only shown.
    let aim: Double?

    init(_ numerator: String, to denominator: String, aim: Double? = nil) {
        self.numerator = numerator
        self.denominator = denominator
        self.aim = aim
    }

    var name: String { "\(numerator) ÷ \(denominator)" }

    /// The ratio of each sample of the numerator to the mean of its neighbours: the last sample of the denominator
    /// before it and the first one after it. A machine whose speed drifts slowly does not change the ratio.
    func values(in samples: [Sample]) -> [Double] {
        samples.indices.filter { samples[$0].benchmark == numerator }.compactMap { index in
            let before = samples[..<index].last { $0.benchmark == denominator }
            let after = samples[index...].first { $0.benchmark == denominator }
            let neighbours = [before, after].compactMap { $0?.measurement.rate }
            guard !neighbours.isEmpty else { return nil }
            let reference = neighbours.reduce(0, +) / Double(neighbours.count)
            return reference > 0 ? samples[index].measurement.rate / reference : nil
        }
    }
}
