import Domain
import Testing

/// Sums of money are exact and written without needless digits.
@Suite(.timeLimit(.minutes(30))) struct MoneyTests {
    @Test(arguments: [
        ("0", "0"), ("0.000000", "0"), ("12.5", "12.5"), ("-0.0015", "-0.0015"), ("-12", "-12"), ("100", "100"),
        ("123456789012345678901.000000000001", "123456789012345678901.000000000001"),
        ("0.000000000001", "0.000000000001"),
    ])
    func isWrittenAsShortAsItIs(_ text: String, _ written: String) {
        #expect(Money(text)?.description == written)
    }

    @Test(arguments: ["", "NaN", "1,5", "1e40"])
    func whatIsNoAmount(_ text: String) {
        #expect(Money(text) == nil)
    }

    @Test func sumsAreExact() {
        let tenth = Money("0.1") ?? .zero
        #expect((0..<10).reduce(.zero) { sum, _ in sum + tenth } == Money("1"))
        #expect(Money("-1") ?? .zero < .zero)
    }

    @Test(arguments: [
        ("0", "0.000000"), ("12.5", "12.500000"), ("-3", "-3.000000"), ("0.0000005", "0.000001"),
        ("-0.0000004", "0.000000"),
        ("9999.999999", "9999.999999"), ("0.9999996", "1.000000"),
    ]) func laravelsFormHasSixDecimals(text: String, expected: String) {
        #expect(Money(text)?.laravelText == expected)
    }
}
