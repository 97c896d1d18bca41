import Foundation
import TestSupport
import Testing

/// Other programs change Laravel's tables at random. After each step, lists, totals, exports, details and reports equal
/// a plain query (`docs/guarantees.md`).
///
/// `CODEXFLOW_PROPERTY_STEPS` makes it longer, and `TEST_SEED` repeats a run that failed.
/// `CODEXFLOW_PROPERTY_WITHOUT` leaves out the operations of these names, separated by commas. `UsageExactnessTests`
/// has programs that write, roll up and are killed at the same time.
@Suite(.timeLimit(.minutes(30))) struct LivingTablesTests {
    /// Steps on one database. A new database begins often enough that most steps do not follow a truncation.
    private static let stepsOfDatabase = 60

    private static func setting(_ name: String) -> String? {
        ProcessInfo.processInfo.environment["CODEXFLOW_PROPERTY_\(name)"]
    }

    @Test func everyAnswerEqualsAPlainQuery() async throws {
        let first = TestSeed.seed(standard: 13)
        var left = Self.setting("STEPS").flatMap(Int.init) ?? 180
        let without = Set((Self.setting("WITHOUT") ?? "").split(separator: ",").map(String.init))
        var seed = first
        while left > 0 {
            let (steps, run) = (min(left, Self.stepsOfDatabase), seed)
            let mismatches = try await AdminBench.with { bench in
                try await LivingTables.run(bench, seed: run, steps: steps, without: without)
            }
            for mismatch in mismatches { Issue.record("TEST_SEED=\(run) repeats it: \(mismatch)") }
            left -= steps
            seed &+= 1
        }
    }
}
