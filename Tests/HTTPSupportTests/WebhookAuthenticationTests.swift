import Bootstrap
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Testing

@Suite(.timeLimit(.minutes(30))) struct WebhookAuthenticationTests {
    private static let key = "0123456789abcdef0123456789abcdef"
    private static let previous = "fedcba9876543210fedcba9876543210"

    private func test<T>(
        _ setup: TestingSetup = .router, _ body: @Sendable (any TestClientProtocol) async throws -> T
    ) async throws -> T {
        var server = TestServer()
        server.errorShape = .webhook
        let keys = WebhookKeys(current: Secret(Self.key), previous: Secret(Self.previous))
        return try await server.test(
            setup,
            routes: [HTTPRoute(.post, "/hook", access: .webhookKey(keys)) { _, _ in "in" }], body)
    }

    /// The goldens 161 to 172.
    @Test(
        arguments: [
            ([HTTPField.Name.apiKey: key], true), ([.apiKey: previous], true), ([.apiKey: "wrong"], false),
            ([.apiKey: ""], false), ([.authorization: "Bearer \(key)"], true), ([.authorization: key], true),
            ([.authorization: "bearer \(key)"], false), ([.apiKey: "Bearer \(key)"], true),
            ([.apiKey: "  \(key)  "], true),
            ([:], false), ([.apiKey: "wrong", .authorization: "Bearer \(key)"], false),
            ([.apiKey: "", .authorization: "Bearer \(key)"], false), ([.authorization: "Bearer  \(key)"], true),
            ([.authorization: "Bearer "], false),
        ] as [(HTTPFields, Bool)])
    func aKeyIsAcceptedWhereLaravelLooksForIt(headers: HTTPFields, isLetIn: Bool) async throws {
        let response = try await test { try await $0.execute(uri: "/hook", method: .post, headers: headers) }
        #expect(response.status == (isLetIn ? .ok : .unauthorized))
        #expect(response.text == (isLetIn ? "in" : #"{"error":"Unauthorized","message":"Invalid webhook key"}"#))
    }

    @Test func aKeyInTheQueryIsNotAccepted() async throws {
        let response = try await test { try await $0.execute(uri: "/hook?X-API-Key=\(Self.key)", method: .post) }
        #expect(response.status == .unauthorized)
    }

    @Test func aWrongKeyIsRefusedBeforeTheBodyArrives() async throws {
        let answer = try await test(.live) { client in
            try await RawConnection.run(port: try #require(client.port)) { connection in
                try await connection.send(
                    "POST /hook HTTP/1.1\r\nHost: x\r\nX-API-Key: wrong\r\nContent-Length: 9999\r\n\r\n")
                return try await connection.receive(until: "webhook key")
            }
        }
        #expect(answer.hasPrefix("HTTP/1.1 401 "))
    }
}
