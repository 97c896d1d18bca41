/// A sum of costs in USD, exact; below zero where `api_logs` has such rows.
package struct Money: Sendable, Hashable, Comparable, AdditiveArithmetic {
    /// 10^-12 USD, the last digit of our facts.
    package var picodollars: Int128

    package static let zero = Money(picodollars: 0)

    package init(picodollars: Int128) {
        self.picodollars = picodollars
    }

    /// The amount that `text` writes, such as `12.5`; `nil` where it is no number or beyond 37 digits.
    package init?(_ text: String) {
        guard let picodollars = DecimalLiteral(text)?.scaled(by: 12) else { return nil }
        self.picodollars = picodollars
    }

    package static func + (left: Money, right: Money) -> Money {
        Money(picodollars: left.picodollars + right.picodollars)
    }

    package static func - (left: Money, right: Money) -> Money {
        Money(picodollars: left.picodollars - right.picodollars)
    }

    package static func < (left: Money, right: Money) -> Bool { left.picodollars < right.picodollars }
}

extension Money: CustomStringConvertible {
    /// In picodollars.
    private static let dollar: UInt128 = 1_000_000_000_000

    /// The amount with as many decimals as it has: `0`, `12.5`; both a decimal string and a JSON number. The one form
    /// of money in `/api/v1`, in exports and of the command line.
    package var description: String {
        let (whole, rest) = picodollars.magnitude.quotientAndRemainder(dividingBy: Self.dollar)
        // Smaller numbers are much quicker to write, and sums are small.
        let dollars = UInt64(exactly: whole).map { String($0) } ?? String(whole)
        var (fraction, digits) = (UInt64(rest), [UInt8](repeating: 0, count: 12))
        for place in digits.indices.reversed() {
            digits[place] = UInt8(ascii: "0") + UInt8(fraction % 10)
            fraction /= 10
        }
        while digits.last == UInt8(ascii: "0") { digits.removeLast() }
        let amount = digits.isEmpty ? dollars : "\(dollars).\(String(decoding: digits, as: UTF8.self))"
        return picodollars < 0 ? "-\(amount)" : amount
    }

    /// The amount with 6 decimals, as Laravel writes its columns `decimal(10, 6)`; rounded half away from zero.
    package var laravelText: String {
        let micros = (picodollars.magnitude + 500_000) / 1_000_000
        let (whole, rest) = micros.quotientAndRemainder(dividingBy: 1_000_000)
        let digits = String(UInt64(rest))
        let amount = "\(whole).\(String(repeating: "0", count: 6 - digits.count))\(digits)"
        return picodollars < 0 && micros > 0 ? "-\(amount)" : amount
    }
}

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
