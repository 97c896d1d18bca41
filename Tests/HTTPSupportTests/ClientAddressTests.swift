import Bootstrap
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Testing

@testable import HTTPSupport

@Suite(.timeLimit(.minutes(30))) struct ClientAddressTests {
    @Test(arguments: [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", " 10.0.0.2 "], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
    ])
    func theClientIsTheLastUntrustedHop(
        peer: String, forwardedFor: [String], client: String
    ) throws {
        let middleware = ClientAddressMiddleware(trusting: [try #require(CIDR("10.0.0.0/8"))])
        let found = middleware.client(try #require(IPAddress(peer)), forwardedFor: forwardedFor)
        #expect(found.description == client)
    }

    private static let local = ["127.0.0.1", "::1"].compactMap { CIDR($0) }

    private func seen(trusting trusted: [CIDR]) async throws -> String {
        var server = TestServer()
        server.settings.trustedProxies = trusted
        return try await server.test(
            .live,
            routes: [HTTPRoute(.get, "/who") { _, context in context.clientAddress?.description ?? "nobody" }]
        ) { client in
            try await client.execute(uri: "/who", method: .get, headers: [.forwardedFor: "203.0.113.9"]).text
        }
    }

    @Test func aForwardedAddressCountsOnlyFromATrustedProxy() async throws {
        #expect(try await seen(trusting: Self.local) == "203.0.113.9")
        #expect(try await ["127.0.0.1", "::1"].contains(seen(trusting: [])))
    }

    @Test func theAllowListAdmitsOnlyItsAddresses() async throws {
        var server = TestServer()
        server.settings.allowedAddresses = Self.local
        #expect(try await server.test(.live) { try await $0.execute(uri: "/metrics", method: .get).status } == .ok)
        server.settings.allowedAddresses = [try #require(CIDR("203.0.113.0/24"))]
        #expect(try await server.test(.live) { try await $0.execute(uri: "/health/live", method: .get).status } == .ok)
        let refused = try await server.test(.live) { try await $0.execute(uri: "/metrics", method: .get) }
        #expect(refused.status == .forbidden)
        #expect(refused.text == #"{"message":"This address is not allowed."}"#)
    }
}
