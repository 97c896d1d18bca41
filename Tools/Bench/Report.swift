import Foundation
import Postgres
import TestSupport

/// Everything that a run found.
struct BenchReport: Sendable {
    let facts: MachineFacts
    let schedule: Schedule
    let samples: [Sample]

    /// The samples of one benchmark, in order.
    func measurements(of benchmark: String) -> [Measurement] {
        samples.filter { $0.benchmark == benchmark }.map(\.measurement)
    }

    /// What is written to `.local/bench.json`: facts, rates, ratios, every sample.
    var json: Data {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return try encoder.encode(
                File(
                    facts: facts,
                    rates: Dictionary(
                        uniqueKeysWithValues: schedule.benchmarks.map {
                            ($0.name, Spread(measurements(of: $0.name).map(\.rate)))
                        }),
                    ratios: schedule.ratios.map { ratio in
                        File.Ratio(name: ratio.name, aim: ratio.aim, spread: Spread(ratio.values(in: samples)))
                    },
                    samples: samples))
        }
    }

    private struct File: Encodable {
        struct Ratio: Encodable {
            let name: String
            let aim: Double?
            let spread: Spread?
        }

        let facts: MachineFacts
        let rates: [String: Spread?]
        let ratios: [Ratio]
        let samples: [Sample]
    }
}

/// A report as text: medians, their spread, and the ratios.
struct ReportTable: CustomStringConvertible {
    let description: String

    init(_ report: BenchReport) {
        let facts = report.facts
        let rounds = report.samples.map(\.round).max() ?? 0
        description = """
            \(facts.processor), \(facts.cores) cores, PostgreSQL \(facts.postgres), \(facts.rows) events before; \
            medians of \(rounds) rounds of \(facts.seconds) s; commit \(facts.commit)
            \(Self.quietness(report.samples.map(\.noise)))
            CPU is in µs an event, memory in MB, batch in events a transaction, latency in ms a request.
            Bytes an event, indexes included: \(Self.sizes(facts)).

            \(Self.aligned(Self.rates(report)))

            \(Self.aligned(Self.ratios(report)))
            """
    }

    /// Whether the figures may be compared with those of another run.
    static func quietness(_ noises: [MachineNoise]) -> String {
        let percent = { (part: Double) in "\((part * 100).shown(1)) %" }
        guard let others = Spread(noises.map(\.others)), let stolen = Spread(noises.map(\.stolen)) else { return "" }
        let loud = noises.count { !$0.isQuiet }
        let verdict = loud == 0 ? "quiet in each" : "not quiet in \(loud)"
        return """
            The machine was \(verdict) of \(noises.count) measurements: others took \(percent(others.median)) of the \
            processors, at most \(percent(others.maximum)); the hypervisor \(percent(stolen.median)), at most \
            \(percent(stolen.maximum)).
            """
    }

    private static func sizes(_ facts: MachineFacts) -> String {
        facts.bytesPerEvent.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.shown())" }.joined(separator: ", ")
    }

    private static func rates(_ report: BenchReport) -> [[String]] {
        let head = [
            "benchmark", "per second", "min", "max", "mean", "p50", "p99", "service", "postgres", "client", "memory",
            "batch",
        ]
        return [head]
            + report.schedule.benchmarks.compactMap { benchmark in
                let measurements = report.measurements(of: benchmark.name)
                guard let rate = Spread(measurements.map(\.rate)) else { return nil }
                let median = { (value: (Measurement) -> Double?, decimals: Int) in
                    Spread(measurements.compactMap(value))?.median.shown(decimals) ?? ""
                }
                return [
                    benchmark.name, rate.median.shown(), rate.minimum.shown(), rate.maximum.shown(),
                    median(\.meanLatency, 1), median(\.medianLatency, 1), median(\.latency99, 1),
                    median(\.serviceCPU, 1), median(\.postgresCPU, 1), median(\.clientCPU, 1),
                    median({ $0.peakMemory.map { Double($0) / 1e6 } }, 0), median(\.batchEvents, 0),
                ]
            }
    }

    private static func ratios(_ report: BenchReport) -> [[String]] {
        [["ratio", "median", "min", "max", "aim", ""]]
            + report.schedule.ratios.compactMap { ratio in
                guard let spread = Spread(ratio.values(in: report.samples)) else { return nil }
                let verdict = ratio.aim.map { spread.median >= $0 ? "met" : "not met" }
                return [
                    ratio.name, spread.median.shown(2), spread.minimum.shown(2), spread.maximum.shown(2),
                    ratio.aim?.shown(2) ?? "", verdict ?? "",
                ]
            }
    }

    /// Rows with columns: words to the left, numbers to the right.
    static func aligned(_ rows: [[String]]) -> String {
        let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.indices.map { column in
                row[column].padded(to: widths[column], isRight: column > 0)
            }.joined(separator: "  ")
        }.map { $0.trimmingTrailingSpaces }.joined(separator: "\n")
    }
}

extension Double {
    /// With `decimals` digits after the point.
    func shown(_ decimals: Int = 0, leading width: Int = 0) -> String {
        String(format: "%.\(decimals)f", self).padded(to: width, isRight: true)
    }
}

extension String {
    /// With spaces up to `width`, after the text, or before it if `isRight`.
    func padded(to width: Int, isRight: Bool = false) -> String {
        let spaces = String(repeating: " ", count: max(0, width - count))
        return isRight ? spaces + self : self + spaces
    }

    fileprivate var trimmingTrailingSpaces: String {
        String(reversed().drop { $0 == " " }.reversed())
    }
}

/// The median of numbers and their spread.
struct Spread: Codable, Sendable, Equatable {
    let median: Double
    let minimum: Double
    let maximum: Double

    /// `nil` without a number.
    init?(_ values: [Double]) {
        let sorted = values.sorted()
        guard let first = sorted.first, let last = sorted.last else { return nil }
        let middle = sorted.count / 2
        median = sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
        minimum = first
        maximum = last
    }
}

/// The machine and the database of a run.
struct MachineFacts: Codable, Sendable {
    let date: String
    let commit: String
    let processor: String
    let cores: Int
    let memory: Int
    let postgres: String
    /// Settings of the server that are not PostgreSQL's defaults, except addresses and files.
    let settings: [String: String]
    /// The number of filled events.
    let rows: Int
    /// Seconds of one measurement.
    let seconds: Int
    /// The bytes of each table with its indexes, for each filled event.
    let bytesPerEvent: [String: Double]

    /// Gathers the facts.
    ///
    /// - Throws: ``PostgresError``.
    static func gather(_ site: BenchSite, rows: Int, seconds: Int) async throws -> MachineFacts {
        let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n") ?? []
        let model = lines.first { $0.hasPrefix("model name") }?.split(separator: ":").last
        let settings = try await site.pool.withConnection { connection in
            let rows = try connection.query(
                """
                SELECT name, current_setting(name) FROM pg_settings
                WHERE setting IS DISTINCT FROM boot_val AND source NOT IN ('default', 'override', 'client', 'session')
                  AND name !~ '^lc_|_file$|_directories$|^port$|^listen_addresses$'
                ORDER BY name
                """)
            return Dictionary(uniqueKeysWithValues: try rows.map { try $0.decode(String.self, String.self) })
        }
        return MachineFacts(
            date: Date().formatted(.iso8601), commit: await commit,
            processor: model.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown",
            cores: ProcessInfo.processInfo.activeProcessorCount, memory: Int(ProcessInfo.processInfo.physicalMemory),
            postgres: try await site.text("current_setting('server_version')") ?? "", settings: settings, rows: rows,
            seconds: seconds, bytesPerEvent: try await bytesPerEvent(site, rows: rows))
    }

    /// The size of a partitioned table is that of its partitions.
    private static func bytesPerEvent(_ site: BenchSite, rows: Int) async throws -> [String: Double] {
        try await site.pool.withConnection { connection in
            let sizes = try connection.query(
                """
                SELECT t.name,
                       coalesce((SELECT sum(pg_total_relation_size(p.relid))::bigint
                                 FROM pg_partition_tree(t.name::regclass) p),
                                pg_total_relation_size(t.name::regclass))
                FROM unnest('{metering.events, metering.rollup_15m, metering.rollup_day,
                              metering.rollup_span}'::text[]) AS t (name)
                """)
            return Dictionary(
                uniqueKeysWithValues: try sizes.map { row in
                    let (name, size) = try row.decode(String.self, Int.self)
                    return (name, Double(size) / Double(rows))
                })
        }
    }

    /// The measured commit, with `+` if files differ from it.
    private static var commit: String {
        get async {
            let git = { (arguments: [String]) in
                try await Command.run("/usr/bin/env", ["git", "-C", Checkout.root.path()] + arguments)
            }
            guard let hash = try? await git(["rev-parse", "--short", "HEAD"]) else { return "unknown" }
            let changes = (try? await git(["status", "--porcelain"])) ?? ""
            return changes.isEmpty ? hash : hash + "+"
        }
    }
}
