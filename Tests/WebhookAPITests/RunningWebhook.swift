import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

/// A `webhook-api` process of its own, and a client that talks to it over sockets.
struct RunningWebhook: Sendable {
    let process: ServiceProcess
    let port: Int

    /// As many connections as there are requests at once; the shared client would open 8.
    private static let http: HTTPClient = {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 512
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }()

    /// Starts the program on the database at `url` and waits until it listens.
    init(databaseURL url: String, _ environment: [String: String] = [:]) async throws {
        process = try ServiceProcess.start(
            product: "webhook-api",
            environment: [
                "DATABASE_URL": url, "LITELLM_WEBHOOK_KEY": WebhookBench.key, "WEBHOOK_PORT": "0",
            ].merging(environment) { _, own in own })
        port = try await process.waitUntilListening()
    }

    /// Starts one, lends it to `body`, stops it by SIGTERM and returns what `body` returned.
    static func with<T>(
        databaseURL url: String, _ environment: [String: String] = [:], _ body: (RunningWebhook) async throws -> T
    ) async throws -> T {
        let webhook = try await RunningWebhook(databaseURL: url, environment)
        do {
            let result = try await body(webhook)
            webhook.process.terminate()
            let exitCode = try await webhook.process.waitForExit()
            #expect(exitCode == 0)
            return result
        } catch {
            webhook.process.kill()
            try await webhook.process.waitForExit()
            throw error
        }
    }

    struct Answer: Sendable {
        let status: Int
        let body: String
        let retryAfter: String?
    }

    func post(_ body: String, to path: String = "/api/webhook/litellm") async throws -> Answer {
        try await send(.init(string: body), path: path)
    }

    /// Whether `/health/ready` comes to answer `status` within seconds: it remembers its last look for a moment.
    func becomesReady(_ status: Int) async throws -> Bool {
        let end = ContinuousClock.now + .seconds(5)
        while ContinuousClock.now < end {
            if try await get("/health/ready").status == status { return true }
        }
        return false
    }

    func get(_ path: String) async throws -> Answer { try await send(nil, path: path) }

    private func send(_ body: ByteBuffer?, path: String) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.headers.add(name: "X-API-Key", value: WebhookBench.key)
        if let body {
            request.method = .POST
            request.body = .bytes(body)
        }
        let response = try await Self.http.execute(request, timeout: .seconds(60))
        let text = try await response.body.collect(upTo: 16 << 20)
        return Answer(
            status: Int(response.status.code), body: String(buffer: text),
            retryAfter: response.headers.first(name: "Retry-After"))
    }
}

/// One event as LiteLLM sends it, as short as it can be (`docs/litellm.md`).
func litellmEvent(
    _ id: Int, key: String, model: String = "gpt-4", startedAt: Date = Date(timeIntervalSinceNow: -60),
    padding: Int = 0, fields: String = ""
) -> String {
    let start = startedAt.timeIntervalSince1970
    return """
        {"id":"chatcmpl-\(id)","litellm_call_id":"call-\(id)","call_type":"acompletion","status":"success",\
        "startTime":\(start),"endTime":\(start + 1),"model":"openai/\(model)","model_group":"\(model)",\
        "response_cost":0.0015,"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,\
        "messages":"\(String(repeating: "x", count: padding))","metadata":{"user_api_key_hash":"\(key)"}\(fields)}
        """
}
