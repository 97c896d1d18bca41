import Analytics
import Storage
import TestSupport
import Testing

/// Every quarter of a range counts once, in its own bucket, wherever its zone's days begin and the border stands.
@Suite(.timeLimit(.minutes(30))) struct RollupCoverTests {
    @Test func everyQuarterHourCountsOnceInItsBucket() {
        var random = SplitMix64(seed: TestSeed.seed(standard: 20))
        for _ in 0..<400 {
            let start = Int.random(in: 0..<400, using: &random)
            // Days of a zone, of 23 to 25 hours; months; or anything.
            let steps = [92...100, 200...700, 1...400].randomElement(using: &random) ?? 1...400
            let boundaries = (0..<Int.random(in: 1...8, using: &random)).reduce(into: [start]) { boundaries, index in
                boundaries.append(boundaries[index] + Int.random(in: steps, using: &random))
            }
            let dayBoundary = Int.random(in: -100...(boundaries[boundaries.count - 1] + 300), using: &random)
            let cover = RollupCover(boundaries, dayBoundary: dayBoundary)
            for quarter in 0..<(boundaries[boundaries.count - 1] + 300) {
                let bucket = boundaries.count { $0 <= quarter }
                let expected = (1..<boundaries.count).contains(bucket) ? [bucket: 1] : [:]
                let found = cover.buckets(of: quarter, dayBoundary: dayBoundary)
                guard found == expected else {
                    Issue.record(
                        "\(boundaries) day boundary \(dayBoundary), quarter \(quarter): \(found), not \(expected)")
                    return
                }
            }
        }
    }

    @Test func aMonthOfLocalDaysReadsDaysAndFewQuarterHours() {
        // 30 days that begin at 21:00 UTC, as in Istanbul.
        let boundaries = (0...30).map { 96_000 + 84 + 96 * $0 }
        let cover = RollupCover(boundaries, dayBoundary: 200_000)
        #expect(cover.days == (0...30).map { 1_001 + $0 })
        #expect(cover.quarterHours.isEmpty)
        #expect(cover.moves.reduce(0) { $0 + $1.quarterHours.count } == 31 * 12)
        // In UTC, days alone.
        #expect(RollupCover((0...30).map { 96_000 + 96 * $0 }, dayBoundary: 200_000).moves.isEmpty)
    }
}

extension RollupCover {
    /// How often `quarter` counts in each bucket, when quarter hours before `dayBoundary` are in day rollups.
    fileprivate func buckets(of quarter: Int, dayBoundary: Int) -> [Int: Int] {
        var buckets: [Int: Int] = [:]
        if quarter < dayBoundary, let first = days.first, let last = days.last, (first..<last).contains(quarter / 96) {
            buckets[days.count { $0 <= quarter / 96 }, default: 0] += 1
        }
        for move in moves where move.quarterHours.contains(quarter) {
            buckets[move.source, default: 0] -= 1
            buckets[move.target, default: 0] += 1
        }
        if quarterHours.contains(quarter) { buckets[bucket(of: quarter), default: 0] += 1 }
        return buckets.filter { (1..<boundaries.count).contains($0.key) && $0.value != 0 }
    }
}
