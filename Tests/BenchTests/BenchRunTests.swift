import Foundation
import TestSupport
import Testing

@testable import Bench

/// One short run of each kind of benchmark on a small database, with every check of the books.
@Suite struct BenchRunTests {
    @Test func everyKindOfBenchmarkRuns() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let kinds = ["naive-hot", "singles-16", "arrays-2k-hot", "statements-2", "copy"]
        let schedule = Schedule(
            of: Catalogue.benchmarks.filter { kinds.contains($0.name) },
            ratios: [Ratio("arrays-2k-hot", to: "naive-hot")])
        let options = BenchRun.Options(rows: 1_000, pairs: 1, seconds: 1, schedule: schedule, folder: folder)
        let report = try await BenchRun(options) { _ in }.run(on: try TestServer.configuration())
        for name in kinds {
            #expect(report.measurements(of: name).allSatisfy { $0.rate > 0 }, "\(name)")
        }
        #expect(report.schedule.ratios.allSatisfy { $0.values(in: report.samples).count == 1 })
        #expect(!ReportTable(report).description.isEmpty)
        #expect(try !report.json.isEmpty)
    }
}
