import AsyncHTTPClient
import Domain
import HTTPSupport
import HTTPTypes
import NIOCore
import NIOHTTP1
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// `webhook-api` answers as `/openapi.json` describes.
@Suite(.timeLimit(.minutes(30))) struct WebhookDocumentTests {
    private static let key = KeyHash(of: "webhook").hex
    private static let event = "/api/webhook/litellm"
    private static let question = "/api/litellm/authorize"
    private static let flat = #"{"user_id":"cf_key_of_1","model":"m","usage":{"prompt_tokens":3},"cost":0.1}"#

    private struct Case {
        var method = HTTPMethod.POST
        let path: String
        var body = ""
        var headers: [(String, String)] = []
        var key: String? = WebhookDocumentTests.key
        /// `nil` where any will do that is described.
        let status: Int?
    }

    private static let cases: [Case] = [
        Case(path: event, body: flat, status: 201),
        Case(path: event, body: flat, headers: [("Idempotency-Key", "a")], status: 201),
        Case(path: event, body: flat, headers: [("Idempotency-Key", "a")], status: 200),
        Case(
            path: event, body: flat.replacing("0.1", with: "0.2"), headers: [("Idempotency-Key", "a")], status: 200),
        Case(path: event, body: flat.replacing("0.1", with: "-1"), status: 202),
        Case(path: event, body: #"{"model":"m"}"#, status: 400),
        Case(path: event, body: flat.replacing("cf_key_of_1", with: "cf_nobody"), status: 404),
        Case(path: event, body: "[\(flat),null,{\"id\":1}]", status: 200),
        Case(path: event, body: flat, key: "x", status: 401),
        Case(path: event, body: flat, key: nil, status: 401),
        Case(path: question, body: #"{"key_hash":"\#(KeyHash(of: "cf_key_of_1").hex)"}"#, status: 200),
        Case(path: question, body: #"{"key_hash":"\#(KeyHash(of: "cf_nobody").hex)"}"#, status: 200),
        Case(path: question, body: #"{"key_hash":"x"}"#, status: 400),
        Case(path: question, key: "x", status: 401),
        Case(method: .GET, path: "/health/live", status: 200),
        Case(method: .GET, path: "/health/ready", status: 200),
        Case(method: .GET, path: "/metrics", status: 200),
    ]

    @Test func everyAnswerIsAsDescribed() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let document = try #require(try await bench.get("/openapi.json").json)
            let process = try ServiceProcess.start(
                product: "webhook-api",
                environment: [
                    "DATABASE_URL": bench.database.url(as: .webhook), "WEBHOOK_PORT": "0",
                    "LITELLM_WEBHOOK_KEY": Self.key,
                ])
            do {
                let port = try await process.waitUntilListening()
                for item in Self.cases { try await check(item, port, document) }
                try await captured(port, document)
                // The answer to a spool has the missing numbers beside the verdicts.
                let spool = [
                    ("X-CodexFlow-Spool", "00000001-0000-4000-8000-000000000000"), ("X-CodexFlow-First", "7"),
                ]
                let missing = try await check(
                    Case(path: Self.event, body: "[\(Self.flat)]", headers: spool, status: 200), port, document)
                #expect(missing?["missing"] == [[1, 6]])
                // Without a database it says so.
                try await onServer(
                    try TestServer.configuration(), "ALTER DATABASE \(bench.database.name) ALLOW_CONNECTIONS false")
                try await bench.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name = 'webhook-api' AND datname = current_database()
                    """)
                try await check(Case(method: .GET, path: "/health/ready", status: 503), port, document)
                try await check(Case(path: Self.event, body: Self.flat, status: 503), port, document)
            } catch {
                process.kill()
                try await process.waitForExit()
                throw error
            }
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        }
    }

    @discardableResult
    private func check(_ item: Case, _ port: Int, _ document: JSON) async throws -> JSON? {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(item.path)")
        request.method = item.method
        for (name, value) in item.headers { request.headers.add(name: name, value: value) }
        if let key = item.key { request.headers.add(name: "X-API-Key", value: key) }
        if item.method == .POST { request.body = .bytes(ByteBuffer(string: item.body)) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let body = Array((try await response.body.collect(upTo: 16 << 20)).readableBytesView)
        let status = Int(response.status.code)
        let words = "\(item.path) \(item.body): \(status) \(String(decoding: body.prefix(300), as: UTF8.self))"
        #expect(item.status == nil || status == item.status, "\(words)")
        let operation = document["paths"]?[item.path]?[item.method.rawValue.lowercased()]
        let type = response.headers.first(name: "Content-Type")?.split(separator: ";").first.map(String.init) ?? ""
        let schema = try #require(operation?["responses"]?["\(status)"]?["content"]?[type]?["schema"], "\(words)")
        let value = type == "text/plain" ? JSON.string(String(decoding: body, as: UTF8.self)) : JSON(parsing: body)
        #expect(SchemaCheck(document: document).problems(try #require(value), schema) == [], "\(words)")
        return value
    }

    /// Every recorded body of LiteLLM is valid by the document, and is answered as it says.
    private func captured(_ port: Int, _ document: JSON) async throws {
        let taken = document["paths"]?[Self.event]?["post"]?["requestBody"]?["content"]?["application/json"]?["schema"]
        let schema = try #require(taken)
        for body in try Fixtures.litellm() {
            let text = String(decoding: body.bytes, as: UTF8.self)
            try await check(Case(path: Self.event, body: text, status: nil), port, document)
            guard let value = JSON(parsing: body.bytes) else { continue }
            #expect(SchemaCheck(document: document).problems(value, schema) == [], "\(body.name)")
        }
    }
}
