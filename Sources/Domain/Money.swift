/// A sum of costs in USD, exact. It is below zero if `api_logs` has such rows.
package struct Money: Sendable, Hashable, Comparable, AdditiveArithmetic {
    /// In 10^-12 USD, the last decimal of `metering.events.cost`.
    package var picodollars: Int128

    /// Nothing.
    package static let zero = Money(picodollars: 0)

    /// The amount of so many 10^-12 USD.
    package init(picodollars: Int128) {
        self.picodollars = picodollars
    }

    /// The amount that `text` writes, such as `12.5`; `nil` for no number, or for more than 37 digits.
    package init?(_ text: String) {
        guard let picodollars = DecimalLiteral(text)?.scaled(by: 12) else { return nil }
        self.picodollars = picodollars
    }

    /// The sum.
    package static func + (left: Money, right: Money) -> Money {
        Money(picodollars: left.picodollars + right.picodollars)
    }

    /// The difference.
    package static func - (left: Money, right: Money) -> Money {
        Money(picodollars: left.picodollars - right.picodollars)
    }

    package static func < (left: Money, right: Money) -> Bool { left.picodollars < right.picodollars }
}

extension Money: CustomStringConvertible {
    /// In picodollars.
    private static let dollar: UInt128 = 1_000_000_000_000

    /// The amount with as many decimals as it has, such as `0` and `12.5`. `/api/v1`, the exports and the command line
    /// write all money so.
    package var description: String {
        let (whole, rest) = picodollars.magnitude.quotientAndRemainder(dividingBy: Self.dollar)
        // `UInt64` is much faster to write than `UInt128`, and sums are small.
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

    /// The amount with 6 decimals, rounded half away from zero, as Laravel writes its columns `decimal(10, 6)`.
    package var laravelText: String {
        let micros = (picodollars.magnitude + 500_000) / 1_000_000
        let (whole, rest) = micros.quotientAndRemainder(dividingBy: 1_000_000)
        let digits = String(UInt64(rest))
        let amount = "\(whole).\(String(repeating: "0", count: 6 - digits.count))\(digits)"
        return picodollars < 0 && micros > 0 ? "-\(amount)" : amount
    }
}

/// What one call cost in USD: as the event states it, and as `metering.events` and `api_logs` keep it.
package struct Cost: Sendable, Hashable {
    /// The number of the event. An event that is sent again is compared by it.
    package let literal: DecimalLiteral
    /// Rounded once into `metering.events.cost`, a `numeric(20,12)`: in 10^-12 USD.
    package let picodollars: Int128
    /// The Laravel cost: rounded once, from ``literal``, into the `numeric(10,6)` of `api_logs.total_cost`, and
    /// saturated at 9999.999999 USD. In 10^-6 USD.
    package let microdollars: Int64
    /// Whether ``microdollars`` is smaller than what the call cost.
    package let isSaturated: Bool

    /// The largest cost that `numeric(10,6)` holds, in 10^-6 USD.
    package static let maximumMicrodollars: Int64 = 9_999_999_999

    /// The cost that `literal` states; `nil` if it is negative or beyond `numeric(20,12)`.
    package init?(_ literal: DecimalLiteral) {
        guard !literal.isBelowZero, let picodollars = literal.scaled(by: 12), let exact = literal.scaled(by: 6),
            picodollars < 100_000_000_000_000_000_000
        else { return nil }
        self.literal = literal
        self.picodollars = picodollars
        microdollars = Int64(min(exact, Int128(Self.maximumMicrodollars)))
        isSaturated = exact > Int128(Self.maximumMicrodollars)
    }

    /// Whether the event states zero, in any form. A cost too small for our tables is not zero.
    package var isZero: Bool { literal.isZero }

    /// The exact amount.
    package var money: Money { Money(picodollars: picodollars) }

    /// The exact amount with 12 decimals, for SQL.
    package var usd: String { Self.decimal(picodollars, scale: 12) }

    /// The Laravel cost with 6 decimals, for SQL.
    package var laravelUSD: String { Self.decimal(Int128(microdollars), scale: 6) }

    private static func decimal(_ value: Int128, scale: Int) -> String {
        let digits = String(value)
        let padded = String(repeating: "0", count: max(0, scale + 1 - digits.count)) + digits
        return "\(padded.dropLast(scale)).\(padded.suffix(scale))"
    }
}

extension Cost: Codable {
    /// Reads the literal of the sender.
    ///
    /// - Throws: `DecodingError` for a text that is no cost.
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let literal = DecimalLiteral(text), let cost = Cost(literal) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "A cost is a decimal literal of 0 or more."))
        }
        self = cost
    }

    /// Writes the literal of the sender.
    ///
    /// - Throws: What `encoder` throws.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(literal.text)
    }
}
