/// A number exactly as a JSON text wrote it. No digit passes through binary floating point.
///
/// It follows the JSON grammar (RFC 8259 §6) and has at most ``maximumLength`` bytes.
package struct DecimalLiteral: Sendable, Hashable {
    /// What happens to the digits beyond a scale.
    package enum Rounding: Sendable {
        /// As PostgreSQL's `numeric` rounds.
        case halfAwayFromZero
        case towardZero
    }

    /// The longest literal that is taken for a number.
    package static let maximumLength = 400

    /// The text as it was written.
    package let text: String
    private let number: ScannedNumber

    /// The number that `text` writes; `nil` for another text, or a longer one.
    package init?(_ text: some StringProtocol) {
        var text = String(text)
        let number = text.withUTF8 { bytes -> ScannedNumber? in
            guard bytes.count <= Self.maximumLength else { return nil }
            var scanner = NumberScanner(bytes: bytes)
            return scanner.scan()
        }
        guard let number else { return nil }
        self.text = text
        self.number = number
    }

    /// Whether the value is zero, in any form.
    package var isZero: Bool { number.digitCount == 0 }

    /// Whether the value is below zero; `-0.0` is not.
    package var isBelowZero: Bool { number.isNegative && !isZero }

    /// The value times 10^`scale`; `nil` where it does not fit 37 digits.
    package func scaled(by scale: Int, _ rounding: Rounding = .halfAwayFromZero) -> Int128? {
        let kept = number.pointPosition + scale
        guard !isZero, kept >= 0 else { return 0 }
        guard kept <= 37 else { return nil }
        let magnitude: UInt128
        if kept >= number.digitCount {
            magnitude = number.significand * Self.powersOfTen[kept - number.digitCount]
        } else {
            let divisor = Self.powersOfTen[number.digitCount - kept]
            let (quotient, remainder) = number.significand.quotientAndRemainder(dividingBy: divisor)
            let isRoundedUp = rounding == .halfAwayFromZero && remainder >= divisor - remainder
            magnitude = isRoundedUp ? quotient + 1 : quotient
        }
        return number.isNegative ? -Int128(magnitude) : Int128(magnitude)
    }

    /// The value if it is whole in any form, such as `1e2` or `10.0`; `nil` if it is not, or does not fit 37 digits.
    package var whole: Int128? {
        let decimals = number.digitCount - number.pointPosition
        if decimals > 0, !isZero {
            guard decimals < Self.powersOfTen.count, number.significand.isMultiple(of: Self.powersOfTen[decimals])
            else {
                return nil
            }
        }
        return scaled(by: 0)
    }

    private static let powersOfTen: [UInt128] = (0..<NumberScanner.maximumDigits).reduce(into: [1]) { powers, _ in
        powers.append(powers[powers.count - 1] * 10)
    }
}

/// The value `0.significand × 10^pointPosition`.
private struct ScannedNumber: Sendable, Hashable {
    var isNegative = false
    /// The first significant digits. Digits beyond ``NumberScanner/maximumDigits`` decide no rounding.
    var significand: UInt128 = 0
    var digitCount = 0
    var pointPosition = 0
}

/// Reads one JSON number.
private struct NumberScanner {
    /// What `UInt128` holds in full.
    static let maximumDigits = 38

    let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0
    private var number = ScannedNumber()

    init(bytes: UnsafeBufferPointer<UInt8>) {
        self.bytes = bytes
    }

    mutating func scan() -> ScannedNumber? {
        number.isNegative = take("-")
        let hasLeadingZero = position < bytes.count && bytes[position] == UInt8(ascii: "0")
        let wholeDigits = takeDigits(areWhole: true)
        guard wholeDigits == 1 || (wholeDigits > 1 && !hasLeadingZero) else { return nil }
        if take(".") {
            guard takeDigits(areWhole: false) > 0 else { return nil }
        }
        if take("e") || take("E") {
            guard let exponent = takeExponent() else { return nil }
            number.pointPosition += exponent
        }
        return position == bytes.count ? number : nil
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func nextDigit() -> UInt8? {
        guard position < bytes.count, bytes[position] >= 0x30, bytes[position] <= 0x39 else { return nil }
        position += 1
        return bytes[position - 1] - 0x30
    }

    /// How many digits there are, before or after the point.
    private mutating func takeDigits(areWhole: Bool) -> Int {
        let start = position
        while let digit = nextDigit() {
            let isLeadingZero = digit == 0 && number.digitCount == 0
            if !isLeadingZero, number.digitCount < Self.maximumDigits {
                number.significand = number.significand * 10 + UInt128(digit)
                number.digitCount += 1
            }
            if areWhole, !isLeadingZero { number.pointPosition += 1 }
            if !areWhole, isLeadingZero { number.pointPosition -= 1 }
        }
        return position - start
    }

    private mutating func takeExponent() -> Int? {
        let isBelowZero = take("-")
        if !isBelowZero { _ = take("+") }
        let start = position
        var exponent = 0
        // An exponent beyond this is zero or out of every range already.
        while let digit = nextDigit() { exponent = min(exponent * 10 + Int(digit), 1_000_000) }
        guard position > start else { return nil }
        return isBelowZero ? -exponent : exponent
    }
}
