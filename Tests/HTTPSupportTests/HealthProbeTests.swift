import Domain
import HummingbirdTesting
import Testing

@testable import HTTPSupport

@Suite(.timeLimit(.minutes(30))) struct HealthProbeTests {
    @Test func aServiceIsLiveWithoutItsDatabase() async throws {
        var server = TestServer()
        server.readiness = { throw AppError(.unavailable, "PostgreSQL does not answer.") }
        try await server.test(.live) { client in
            try await HealthProbe.requireLive(
                HTTPServerSettings(host: "localhost", port: try #require(client.port)), within: .seconds(60))
        }
    }

    @Test func withoutAListenerNothingIsLive() async throws {
        let error = await #expect(throws: AppError.self) {
            try await HealthProbe.requireLive(HTTPServerSettings(host: "0.0.0.0", port: 1))
        }
        #expect(error?.message == "no answer from /health/live on 127.0.0.1:1")
    }

    @Test(arguments: [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7"), ("127.0.0.1", "127.0.0.1")])
    func everyAddressIsReachedOnThisMachine(host: String, asked: String) {
        #expect(HealthProbe.loopback(for: host) == asked)
    }
}
