import Bootstrap
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import InMemoryLogging
import Logging
import Testing

@Suite(.timeLimit(.minutes(30))) struct HTTPServerTests {
    private func settings(_ environment: [String: String]) throws -> HTTPServerSettings {
        try SettingsReader(environment: environment).read {
            HTTPServerSettings(reading: $0, prefix: "WEBHOOK", defaultPort: 8081)
        }
    }

    private func problems(_ environment: [String: String]) -> [String] {
        let error = #expect(throws: ConfigurationError.self) { try settings(environment) }
        return error?.problems ?? []
    }

    /// Runs `body` with the paths of a certificate file and a key file.
    private func withFiles<T>(
        certificate: String = TestCertificate.certificate, key: String = TestCertificate.key,
        _ body: (_ certificate: String, _ key: String) async throws -> T
    ) async throws -> T {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = (folder.appending(path: "certificate.pem"), folder.appending(path: "key.pem"))
        try Data(certificate.utf8).write(to: files.0)
        try Data(key.utf8).write(to: files.1)
        return try await body(files.0.path, files.1.path)
    }

    @Test func theDefaultsRefuseNobody() throws {
        let settings = try settings([:])
        #expect(settings.host == "127.0.0.1" && settings.port == 8081)
        #expect(settings.tls == nil && settings.rateLimit == nil)
        #expect(settings.allowedAddresses.isEmpty && settings.trustedProxies.isEmpty)
        #expect(settings.idleTimeout == .seconds(15))
    }

    @Test func everySettingHasAVariableOfTheService() throws {
        let settings = try settings([
            "WEBHOOK_HOST": "::", "WEBHOOK_PORT": "0", "WEBHOOK_IDLE_TIMEOUT": "5s", "WEBHOOK_MAX_CONNECTIONS": "9",
            "WEBHOOK_TRUSTED_PROXIES": "10.0.0.1", "WEBHOOK_ALLOW": "10.0.0.0/8 ::1",
            "WEBHOOK_RATE_LIMIT": "50", "WEBHOOK_RATE_BURST": "60",
        ])
        #expect(settings.host == "::" && settings.port == 0 && settings.maxConnections == 9)
        #expect(settings.idleTimeout == .seconds(5))
        #expect(settings.trustedProxies.map(\.description) == ["10.0.0.1/32"])
        #expect(settings.allowedAddresses.map(\.description) == ["10.0.0.0/8", "::1/128"])
        #expect(settings.rateLimit == .init(rate: 50, burst: 60))
    }

    @Test func malformedValuesStopTheStart() {
        #expect(
            problems(["WEBHOOK_PORT": "80x", "WEBHOOK_TRUSTED_PROXIES": "proxy"]) == [
                "WEBHOOK_PORT: '80x' is not a number from 0 to 65535",
                "WEBHOOK_TRUSTED_PROXIES: 'proxy' is not a list of addresses such as 10.0.0.0/8, 2001:db8::1",
            ])
    }

    @Test func theBodyLimitAndTheBudgetAreSettings() throws {
        let settings = SettingsReader(environment: ["WEBHOOK_MAX_BODY_BYTES": "8MB"])
        try settings.read { _ = BodyReader(reading: $0, prefix: "WEBHOOK") }
        #expect(
            settings.effective.map(\.description) == [
                "WEBHOOK_MAX_BODY_BYTES=8MB (environment)", "WEBHOOK_MAX_INFLIGHT_BYTES=33554432 (default)",
            ])
    }

    @Test func certificateAndKeyMustBeReadableAndBelongTogether() async throws {
        #expect(
            problems(["WEBHOOK_TLS_KEY": "/key"]) == ["WEBHOOK_TLS_CERTIFICATE: is not set, but WEBHOOK_TLS_KEY is"])
        #expect(
            problems(["WEBHOOK_TLS_KEY": "/no/key", "WEBHOOK_TLS_CERTIFICATE": "/no/certificate"]) == [
                "WEBHOOK_TLS_CERTIFICATE: the file '/no/certificate' cannot be read as PEM",
                "WEBHOOK_TLS_KEY: the file '/no/key' cannot be read as PEM",
            ])
        try await withFiles(key: TestCertificate.otherKey) { certificate, key in
            #expect(
                problems(["WEBHOOK_TLS_CERTIFICATE": certificate, "WEBHOOK_TLS_KEY": key]) == [
                    "WEBHOOK_TLS_KEY: is not the key of the certificate in WEBHOOK_TLS_CERTIFICATE"
                ])
        }
    }

    @Test func withCertificateAndKeyTheServiceSpeaksTLS() async throws {
        var server = TestServer()
        server.settings = try await withFiles { certificate, key in
            try settings(["WEBHOOK_TLS_CERTIFICATE": certificate, "WEBHOOK_TLS_KEY": key])
        }
        let tls = server.settings.tls
        let status = try await server.test(.ahc(.https)) { client in
            try await HealthProbe.requireLive(
                HTTPServerSettings(host: "localhost", port: try #require(client.port), tls: tls), within: .seconds(60))
            return try await client.execute(uri: "/health/live", method: .get).status
        }
        #expect(status == .ok)
    }

    @Test func theStartIsOneLineWithThePortAndAnswersNameTheServer() async throws {
        let server = TestServer()
        let (port, name) = try await server.test(.live) { client in
            (client.port, try await client.execute(uri: "/health/live", method: .get).headers[.server])
        }
        let lines = server.logs.entries.filter { $0.level == .info && "\($0.message)".contains("listening") }
        #expect(lines.map { "\($0.message)" } == ["Server started and listening on localhost:\(try #require(port))"])
        #expect(name == "test")
    }

    @Test func bytesThatAreNotHTTPAreAnswered400() async throws {
        let answer = try await TestServer().test(.live) { client in
            try await RawConnection.run(port: try #require(client.port)) { connection in
                try await connection.send("GARBAGE\r\n\r\n")
                return try await connection.receiveAll()
            }
        }
        #expect(answer.hasPrefix("HTTP/1.1 400 "))
    }

    @Test func anIdleConnectionIsClosed() async throws {
        var server = TestServer()
        server.settings.idleTimeout = .milliseconds(50)
        let answer = try await server.test(.live) { client in
            try await RawConnection.run(port: try #require(client.port)) { try await $0.receiveAll() }
        }
        #expect(answer.isEmpty)
    }
}
