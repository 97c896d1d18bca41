import Domain
import Testing

@testable import AdminAPI

/// How many exports run, and whose.
@Suite(.timeLimit(.minutes(30))) struct ExportGateTests {
    private func refusal(_ gate: ExportGate, _ user: Int64) -> AppError.Code? {
        do { _ = try gate.enter(user) } catch { return (error as? AppError)?.code }
        return nil
    }

    @Test func aUserHasAThirdOfThePlacesAndTheOthersHaveTheRest() throws {
        let gate = ExportGate(limit: 6)
        let first = try [1, 1, 2, 2, 3].map { try gate.enter($0) }
        #expect(refusal(gate, 1) == .tooManyRequests)
        let last = try gate.enter(4)
        #expect(refusal(gate, 5) == .unavailable)
        last.leave()
        last.leave()
        let other = try gate.enter(5)
        #expect(refusal(gate, 6) == .unavailable)
        withExtendedLifetime((first, other)) {}
    }

    /// An answer that nobody began to read, such as that to a `HEAD`, holds nothing.
    @Test func aPlaceThatNobodyHoldsIsFree() throws {
        let gate = ExportGate(limit: 1)
        for _ in 0..<3 { #expect(refusal(gate, 1) == nil) }
        let place = try gate.enter(1)
        #expect(refusal(gate, 1) == .tooManyRequests)
        #expect(refusal(gate, 2) == .unavailable)
        withExtendedLifetime(place) {}
    }
}
