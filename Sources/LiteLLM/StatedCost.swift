internal import Domain

/// What an event says of its cost.
enum StatedCost: Hashable {
    /// Nothing, or nothing that is a number: unpriced, which is not zero.
    case unpriced
    case priced(Cost)
    /// Negative, not finite, or beyond `numeric(20,12)`.
    case implausible

    init(_ value: JSONValue) {
        if let number = value.number {
            self = Cost(number).map(Self.priced) ?? .implausible
        } else if value.isString {
            self = Self.isNotFinite(value.trimmedText ?? "") ? .implausible : .unpriced
        } else {
            // Bare words such as NaN, which Python writes, and numbers too long for one.
            let isOtherType = !value.isStated || value.isTrue || value.isFalse || value.isArray || value.isObject
            self = isOtherType ? .unpriced : .implausible
        }
    }

    var cost: Cost? {
        guard case .priced(let cost) = self else { return nil }
        return cost
    }

    private static func isNotFinite(_ text: String) -> Bool {
        let unsigned = text.first == "-" || text.first == "+" ? text.dropFirst() : text[...]
        return ["nan", "inf", "infinity"].contains(unsigned.lowercased())
    }
}
