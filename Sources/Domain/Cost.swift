/// What one call cost in USD, as its sender wrote it and as our table and Laravel's keep it.
package struct Cost: Sendable, Hashable {
    /// The literal of the event, kept because a re-sent event is compared by it.
    package let literal: DecimalLiteral
    /// Rounded once into the facts: `numeric(20,12)`, in 10^-12 USD.
    package let picodollars: Int128
    /// Rounded once, from the literal, into Laravel's `numeric(10,6)`, in 10^-6 USD; saturated at 9999.999999.
    package let microdollars: Int64
    /// Whether ``microdollars`` is smaller than what the call cost.
    package let isSaturated: Bool

    /// The largest cost that `numeric(10,6)` holds, in 10^-6 USD.
    package static let maximumMicrodollars: Int64 = 9_999_999_999

    /// The cost that `literal` states, or `nil` where it is negative or beyond `numeric(20,12)`.
    package init?(_ literal: DecimalLiteral) {
        guard !literal.isBelowZero, let picodollars = literal.scaled(by: 12), let exact = literal.scaled(by: 6),
            picodollars < 100_000_000_000_000_000_000
        else { return nil }
        self.literal = literal
        self.picodollars = picodollars
        microdollars = Int64(min(exact, Int128(Self.maximumMicrodollars)))
        isSaturated = exact > Int128(Self.maximumMicrodollars)
    }

    /// Whether the sender wrote zero, in any form; a cost too small for our tables is none.
    package var isZero: Bool { literal.isZero }

    package var money: Money { Money(picodollars: picodollars) }

    /// The exact amount with 12 decimals, as SQL takes it.
    package var usd: String { Self.decimal(picodollars, scale: 12) }

    /// The Laravel cost: the amount with the 6 decimals of `api_logs.total_cost`.
    package var laravelUSD: String { Self.decimal(Int128(microdollars), scale: 6) }

    private static func decimal(_ value: Int128, scale: Int) -> String {
        let digits = String(value)
        let padded = String(repeating: "0", count: max(0, scale + 1 - digits.count)) + digits
        return "\(padded.dropLast(scale)).\(padded.suffix(scale))"
    }
}

extension Cost: Codable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let literal = DecimalLiteral(text), let cost = Cost(literal) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "A cost is a decimal literal of 0 or more."))
        }
        self = cost
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(literal.text)
    }
}
