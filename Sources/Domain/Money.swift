/// A sum of costs in USD, exact; below zero where Laravel's ledger has such rows.
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
    /// The amount with as many decimals as it has: `0`, `12.5`; both a decimal string and a JSON number.
    package var description: String {
        let digits = String(picodollars.magnitude)
        let padded = String(repeating: "0", count: max(0, 13 - digits.count)) + digits
        let fraction = padded.suffix(12).reversed().drop { $0 == "0" }.reversed()
        let amount = fraction.isEmpty ? "\(padded.dropLast(12))" : "\(padded.dropLast(12)).\(String(fraction))"
        return picodollars < 0 ? "-\(amount)" : amount
    }
}
