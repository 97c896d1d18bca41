import Foundation
import TestSupport
import Testing

/// Laravel's tables while others write them, on any day of their lives: after each of thousands of steps lists, totals,
/// exports, details and sums are those of a plain query (`docs/guarantees.md`).
///
/// `CODEXFLOW_PROPERTY_STEPS` makes it longer, `TEST_SEED` repeats the story that failed, and
/// `CODEXFLOW_PROPERTY_WITHOUT` leaves out the operations of these names, separated by commas. Other programs that
/// write, fold and die at the same time are `UsageExactnessTests`.
@Suite(.timeLimit(.minutes(15))) struct LivingTablesTests {
    /// Steps of one database: a truncation is followed by much else, and does not last for ever.
    private static let stepsOfStory = 60

    private static func setting(_ name: String) -> String? {
        ProcessInfo.processInfo.environment["CODEXFLOW_PROPERTY_\(name)"]
    }

    @Test func everyAnswerIsThatOfAPlainQuery() async throws {
        let first = TestSeed.seed(standard: 13)
        var left = Self.setting("STEPS").flatMap(Int.init) ?? 180
        let without = Set((Self.setting("WITHOUT") ?? "").split(separator: ",").map(String.init))
        var seed = first
        while left > 0 {
            let (steps, story) = (min(left, Self.stepsOfStory), seed)
            let told = try await AdminBench.with { bench in
                try await LivingTables.tell(bench, seed: story, steps: steps, without: without)
            }
            for mismatch in told { Issue.record("TEST_SEED=\(story) repeats it: \(mismatch)") }
            left -= steps
            seed &+= 1
        }
    }
}
