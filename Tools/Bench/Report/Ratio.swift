/// One benchmark's rate divided by another's.
struct Ratio: Sendable {
    let numerator: String
    let denominator: String
    /// What it should at least be; `nil` where it is only shown.
    let aim: Double?

    init(_ numerator: String, to denominator: String, aim: Double? = nil) {
        self.numerator = numerator
        self.denominator = denominator
        self.aim = aim
    }

    var name: String { "\(numerator) ÷ \(denominator)" }

    /// The ratio of each sample of the numerator to the mean of its two neighbours: the denominator's last sample before it and
    /// the first after it, or the one there is. So a machine that slowly becomes faster or slower changes nothing.
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
