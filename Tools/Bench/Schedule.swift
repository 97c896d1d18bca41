/// What is measured, and in which order, so that what is compared is measured side by side: the machine drifts.
struct Schedule: Sendable {
    /// What a round contains, each once.
    let benchmarks: [any Benchmark]
    let ratios: [Ratio]

    /// Everything, or the benchmarks with one of the words of `text`, separated by commas, in their names, and what these are
    /// compared with.
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

    /// Those of them that are among `benchmarks`.
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
