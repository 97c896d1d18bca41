import TestSupport
import Testing

@testable import Bench

/// The figures that a run is judged by.
@Suite(.timeLimit(.minutes(30))) struct StatisticsTests {
    static let medians: [([Double], Double)] = [([3, 1, 2], 2), ([4, 1, 2, 3], 2.5), ([7], 7)]

    @Test(arguments: medians)
    func medianIsTheMiddle(_ values: [Double], _ median: Double) {
        let spread = Spread(values)
        #expect(spread?.median == median)
        #expect(spread?.minimum == values.min() && spread?.maximum == values.max())
    }

    @Test func nothingHasNoMedian() {
        #expect(Spread([]) == nil)
    }

    /// The reference drifts from 100 to 300; the sample between its two neighbours is compared with their mean.
    @Test func ratioIsToTheMeanOfTheNeighbours() {
        let ratio = Ratio("ours", to: "naive")
        let samples = [("naive", 100.0), ("ours", 400), ("other", 1), ("naive", 300), ("ours", 900)].map(Self.sample)
        #expect(ratio.values(in: samples) == [2, 3])
        #expect(ratio.values(in: Array(samples[1...2])) == [])
    }

    @Test func aRoundHasEachReferenceBeforeWhatIsComparedWithIt() {
        let names = { (schedule: Schedule) in schedule.round.map(\.name) }
        let ratios = [Ratio("b", to: "a"), Ratio("c", to: "a"), Ratio("d", to: "a")]
        let all = ["a", "b", "c", "d", "e"].map(Named.init)
        #expect(names(Schedule(of: all, ratios: ratios)) == ["a", "b", "c", "a", "d", "e"])
        #expect(names(Schedule(only: "d", of: all, ratios: ratios)) == ["a", "d"])
        #expect(names(Schedule(only: "d,b", of: all, ratios: ratios)) == ["a", "b", "d"])
        #expect(names(Schedule(only: "nothing", of: all, ratios: ratios)) == [])
        #expect(names(Schedule(of: all, ratios: ratios).of(all.suffix(3))) == ["c", "d", "e"])
    }

    @Test func numbersOfRowsAreAList() {
        #expect(RowCounts(argument: "10000000,1000")?.values == [10_000_000, 1_000])
        #expect(["999", "", "1000,", "1000,many"].allSatisfy { RowCounts(argument: $0) == nil })
    }

    @Test func ratiosNameBenchmarksThatExist() {
        let names = Catalogue.benchmarks.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(Set(names).isSuperset(of: Catalogue.ratios.flatMap { [$0.numerator, $0.denominator] }))
    }

    @Test func zipfDrawsAQuarterOfTheFirst() {
        var generator = SplitMix64(seed: TestSeed.seed())
        let draws = BenchUser.Distribution.zipf.draw(20_000, using: &generator)
        let share = Double(draws.count { $0 == BenchUser.firstID }) / 20_000
        #expect((0.2...0.35).contains(share))
        #expect(draws.allSatisfy { (BenchUser.firstID..<(BenchUser.firstID + BenchUser.count)).contains($0) })
        #expect(Set(BenchUser.Distribution.uniform.draw(20_000, using: &generator)).count > 8_000)
    }

    private static func sample(_ benchmark: String, _ rate: Double) -> Sample {
        Sample(
            benchmark: benchmark, round: 1, measurement: Measurement(rate: rate, count: 1),
            noise: MachineNoise(others: 0, stolen: 0))
    }
}

/// A benchmark that is only listed.
private struct Named: Benchmark {
    let name: String
    var summary: String { name }

    init(_ name: String) {
        self.name = name
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement { Measurement(rate: 1, count: 1) }
}
