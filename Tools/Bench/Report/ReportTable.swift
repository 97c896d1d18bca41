import Foundation

/// A report for a reader's eyes: medians, how far they spread, and the ratios.
struct ReportTable: CustomStringConvertible {
    let description: String

    init(_ report: BenchReport) {
        let facts = report.facts
        let rounds = report.samples.map(\.round).max() ?? 0
        description = """
            \(facts.processor), \(facts.cores) cores, PostgreSQL \(facts.postgres), \(facts.rows) rows before; \
            medians of \(rounds) rounds of \(facts.seconds) s; commit \(facts.commit)
            CPU is in µs an event, memory in MB, batch in events a transaction, latency in ms a request.
            Bytes an event, indexes included: \(Self.sizes(facts)).

            \(Self.aligned(Self.rates(report)))

            \(Self.aligned(Self.ratios(report)))
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
                    median(\.serviceCPU, 1),
                    median(\.postgresCPU, 1), median(\.clientCPU, 1),
                    median({ $0.peakMemory.map { Double($0) / 1e6 } }, 0),
                    median(\.batchEvents, 0),
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

    /// Rows under each other: words to the left, numbers to the right.
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
    /// With spaces up to `width`, after it, or before it where it stands to the right.
    func padded(to width: Int, isRight: Bool = false) -> String {
        let spaces = String(repeating: " ", count: max(0, width - count))
        return isRight ? spaces + self : self + spaces
    }

    fileprivate var trimmingTrailingSpaces: String {
        String(reversed().drop { $0 == " " }.reversed())
    }
}
