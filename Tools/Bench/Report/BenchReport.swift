import Foundation

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
