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
