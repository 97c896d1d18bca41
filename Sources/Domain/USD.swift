/// An exact amount of money in units of 10^-12 USD, the scale of `metering.events.cost`.
package struct USD: Sendable, Hashable, Comparable, AdditiveArithmetic {
    package static let zero = USD(picos: 0)

    private let picos: Int128

    private init(picos: Int128) {
        self.picos = picos
    }

    /// The amount that a decimal text states, such as PostgreSQL's `numeric` or an operator's argument; `nil` for no number.
    package init?(_ text: String) {
        guard let picos = DecimalLiteral(text)?.scaled(by: 12) else { return nil }
        self.picos = picos
    }

    package static func < (left: USD, right: USD) -> Bool { left.picos < right.picos }
    package static func + (left: USD, right: USD) -> USD { USD(picos: left.picos + right.picos) }
    package static func - (left: USD, right: USD) -> USD { USD(picos: left.picos - right.picos) }
}

extension USD: CustomStringConvertible {
    /// A decimal without superfluous zeros, such as `0.0015`.
    package var description: String {
        let digits = String(picos.magnitude)
        let padded = String(repeating: "0", count: max(0, 13 - digits.count)) + digits
        var fraction = padded.suffix(12)
        while fraction.last == "0" { fraction.removeLast() }
        return (picos < 0 ? "-" : "") + padded.dropLast(12) + (fraction.isEmpty ? "" : "." + fraction)
    }
}
