/// The median of some numbers and how far they spread.
struct Spread: Codable, Sendable, Equatable {
    let median: Double
    let minimum: Double
    let maximum: Double

    /// `nil` of no numbers at all.
    init?(_ values: [Double]) {
        let sorted = values.sorted()
        guard let first = sorted.first, let last = sorted.last else { return nil }
        let middle = sorted.count / 2
        median = sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
        minimum = first
        maximum = last
    }
}
