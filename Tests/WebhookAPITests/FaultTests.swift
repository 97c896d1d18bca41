import TestSupport
import Testing

/// The short form of `make faults`: nothing acknowledged is lost, nothing counted twice.
@Suite(.timeLimit(.minutes(30))) struct FaultTests {
    @Test(arguments: [(services: 1, rounds: 2), (services: 2, rounds: 1)])
    func nothingIsLostOrDoubled(services: Int, rounds: Int) async throws {
        let options = FaultDrill.Options(rounds: rounds, services: services, clients: 4)
        let report = try await FaultDrill(options) { _ in }.run()
        #expect(report.isClean, "\(report)")
    }

    @Test func nothingIsLostOrDoubledWhenAStandbyTakesOver() async throws {
        let options = FaultDrill.Options(rounds: 1, hasStandby: true, clients: 4)
        let report = try await FaultDrill(options) { _ in }.run()
        #expect(report.isClean, "\(report)")
    }
}
