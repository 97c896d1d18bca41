import Domain
import Testing

@Suite(.timeLimit(.minutes(30))) struct DecimalLiteralTests {
    @Test(
        arguments: [
            ("0", 6, 0), ("-0.0", 6, 0), ("1.005", 3, 1005), ("0.0022500000000000003", 12, 2_250_000_000),
            ("1e-3", 6, 1000), ("1.5E+2", 0, 150), ("0.0000015", 6, 2), ("0.0000025", 6, 3), ("-0.0000015", 6, -2),
            ("0.49999", 0, 0), ("0.5", 0, 1), ("-0.5", 0, -1), ("9.99999999", 6, 10_000_000), ("1e-400", 12, 0),
            ("1795420661.285083", 6, 1_795_420_661_285_083), ("100", 0, 100), ("0.00", 3, 0), ("0e999999999999", 0, 0),
        ] as [(String, Int, Int128)])
    func aNumberIsRoundedHalfAwayFromZero(text: String, scale: Int, expected: Int128) throws {
        #expect(try #require(DecimalLiteral(text)).scaled(by: scale) == expected)
    }

    @Test(arguments: [("10.7", 10), ("-3.9", -3), ("0.999", 0), ("59.9999999", 59)] as [(String, Int128)])
    func truncatesWhereAskedTo(text: String, expected: Int128) throws {
        #expect(try #require(DecimalLiteral(text)).scaled(by: 0, .towardZero) == expected)
    }

    @Test(
        arguments: [
            ("10", 10), ("10.0", 10), ("1.5e3", 1500), ("-7e0", -7), ("0.0", 0), ("0e9", 0), ("100e-2", 1),
            ("1.0000000001", nil), ("2.5e-42", nil), ("-0.5", nil), ("1e37", nil),
            ("0." + String(repeating: "0", count: 60) + "1", nil),
        ] as [(String, Int128?)])
    func aNumberIsWholeOnlyWithoutDecimals(text: String, expected: Int128?) throws {
        #expect(try #require(DecimalLiteral(text)).whole == expected)
    }

    @Test func theLargestWholeNumberIsRead() throws {
        let digits = String(repeating: "9", count: 37)
        #expect(try #require(DecimalLiteral(digits)).scaled(by: 0) == Int128(digits))
        #expect(
            try #require(DecimalLiteral(digits + ".7")).scaled(by: 0) == Int128("1" + String(repeating: "0", count: 37))
        )
        #expect(try #require(DecimalLiteral(digits + "0")).scaled(by: 0) == nil)
        #expect(try #require(DecimalLiteral("1e400")).scaled(by: 0) == nil)
        #expect(try #require(DecimalLiteral("1e99999999999999999999")).scaled(by: 0) == nil)
    }

    @Test func digitsBeyondThe38thDecideNothing() throws {
        let text = "1." + String(repeating: "4", count: 60) + "9"
        #expect(try #require(DecimalLiteral(text)).scaled(by: 30) == Int128("1" + String(repeating: "4", count: 30)))
    }

    @Test(arguments: [
        "", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x10", "1 ", " 1", "NaN", "Infinity", "1,5", "1_000", "１",
        "1.5.2", "--1", "1e5.0", String(repeating: "1", count: 401),
    ])
    func isNothingButAJSONNumber(text: String) {
        #expect(DecimalLiteral(text) == nil)
    }

    @Test func aNumberKeepsItsTextAndSign() throws {
        #expect(try #require(DecimalLiteral("1.50e0")).text == "1.50e0")
        #expect(try #require(DecimalLiteral("-0.0")).isBelowZero == false)
        #expect(try #require(DecimalLiteral("-1e-30")).isBelowZero)
        #expect(try #require(DecimalLiteral("0.000e5")).isZero)
    }

    @Test func roundingAgreesWithIntegerArithmetic() throws {
        for step in Int64(-1000)...1000 {
            let units = step * step * step * 982_451
            let scale = Int(step.magnitude % 10)
            let magnitude = String(units.magnitude)
            let padded = String(repeating: "0", count: max(0, scale + 1 - magnitude.count)) + magnitude
            let fraction = scale == 0 ? "" : ".\(padded.suffix(scale))"
            let literal = try #require(DecimalLiteral("\(units < 0 ? "-" : "")\(padded.dropLast(scale))\(fraction)"))
            #expect(literal.scaled(by: scale) == Int128(units))
            #expect(literal.scaled(by: scale + 3) == Int128(units) * 1000)
        }
    }
}
