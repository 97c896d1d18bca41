internal import Domain

/// The tokens of one call, within 0 … 2^63-1.
struct TokenCounts {
    let input: Int64
    let output: Int64
    let cached: Int64
    let reasoning: Int64
    /// Whether a count is not what the sender wrote, here or in `api_logs`' 32 bits.
    private(set) var isClamped = false

    init(input: JSONValue, output: JSONValue, cached: JSONValue, reasoning: JSONValue) {
        let counts = [input, output, cached, reasoning].map(Self.count)
        (self.input, self.output) = (counts[0].value, counts[1].value)
        (self.cached, self.reasoning) = (counts[2].value, counts[3].value)
        isClamped = counts.contains { $0.isClamped }
    }

    private static func count(_ value: JSONValue) -> (value: Int64, isClamped: Bool) {
        guard value.isStated else { return (0, false) }
        guard let number = value.number, !number.isBelowZero else { return (0, true) }
        let count = number.scaled(by: 0, .towardZero).map(Int64.init(clamping:)) ?? .max
        return (count, count > Int32.max)
    }
}
