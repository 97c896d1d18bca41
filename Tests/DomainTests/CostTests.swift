import Domain
import Foundation
import Testing

@Suite(.timeLimit(.minutes(30))) struct CostTests {
    private func cost(_ text: String) throws -> Cost? {
        Cost(try #require(DecimalLiteral(text)))
    }

    @Test(arguments: [
        ("0.0022500000000000003", "0.002250000000", "0.002250"), ("1.4e-07", "0.000000140000", "0.000000"),
        ("0.0000015", "0.000001500000", "0.000002"), ("0.1234565", "0.123456500000", "0.123457"),
        ("9999.999999", "9999.999999000000", "9999.999999"), ("0", "0.000000000000", "0.000000"),
        ("-0.0", "0.000000000000", "0.000000"),
    ])
    func aCostIsRoundedOnceForFactsAndForLaravel(literal: String, usd: String, laravelUSD: String) throws {
        let cost = try #require(try cost(literal))
        #expect(cost.usd == usd)
        #expect(cost.laravelUSD == laravelUSD)
        #expect(!cost.isSaturated)
    }

    @Test(arguments: ["9999.9999995", "10000", "99999999.999999999999"])
    func aCostSaturatesInTheNarrowerColumn(literal: String) throws {
        let cost = try #require(try cost(literal))
        #expect(cost.isSaturated)
        #expect(cost.laravelUSD == "9999.999999")
    }

    @Test(arguments: ["-0.000001", "-1", "100000000", "99999999.9999999999995", "1e300"])
    func aCostIsNeitherNegativeNorBeyondNumeric(literal: String) throws {
        #expect(try cost(literal) == nil)
    }

    @Test func aCostSurvivesCodingWithItsLiteral() throws {
        let cost = try #require(try cost("0.0022500000000000003"))
        #expect(try JSONDecoder().decode(Cost.self, from: JSONEncoder().encode(cost)) == cost)
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(Cost.self, from: Data(#""-1""#.utf8)) }
    }
}
