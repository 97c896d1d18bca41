import AsyncHTTPClient
import Dispatch
import Foundation
import NIOCore
import NIOHTTP1
import Postgres
import TestSupport

/// A `webhook-api` process of its own, and a client that talks to it over sockets.
struct RunningWebhook: Sendable {
    let process: ServiceProcess
    let port: Int

    /// Starts the program on the database at `url` and waits until it listens.
    init(databaseURL url: String, _ environment: [String: String] = [:]) async throws {
        process = try ServiceProcess(
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
            try await webhook.process.waitForExit()
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

    func post(_ body: String) async throws -> Answer {
        try await send(.init(string: body), path: "/api/webhook/litellm")
    }

    func get(_ path: String) async throws -> Answer { try await send(nil, path: path) }

    private func send(_ body: ByteBuffer?, path: String) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.headers.add(name: "X-API-Key", value: WebhookBench.key)
        if let body {
            request.method = .POST
            request.body = .bytes(body)
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        let text = try await response.body.collect(upTo: 16 << 20)
        return Answer(
            status: Int(response.status.code), body: String(buffer: text),
            retryAfter: response.headers.first(name: "Retry-After"))
    }
}

extension ConnectionPool {
    func number(_ query: Query) async throws -> Int {
        try await withConnection { connection in
            Int(try connection.query("SELECT (\(query))::text")[0].decode(0, as: String?.self) ?? "") ?? -1
        }
    }

    func execute(_ query: Query) async throws {
        _ = try await withConnection { try $0.execute(query) }
    }

    /// Does `body` while another session's transaction that did `statement` stays open.
    func withOpenTransaction<T>(_ statement: Query, _ body: () async throws -> T) async throws -> T {
        let (begun, beginning) = AsyncStream<Void>.makeStream()
        let release = DispatchSemaphore(value: 0)
        let transaction = Task {
            defer { beginning.finish() }
            try await self.transaction { connection in
                try connection.execute(statement)
                beginning.finish()
                release.wait()
            }
        }
        for await _ in begun {}
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        release.signal()
        try await transaction.value
        return try result.get()
    }

    /// Asks again until the answer is `expected` or a deadline has passed, and returns the last answer.
    func settles(_ query: Query, at expected: Int, within deadline: Duration) async throws -> Int {
        let clock = ContinuousClock()
        let end = clock.now + deadline
        while true {
            let number = try await number(query)
            if number == expected || clock.now > end { return number }
            await Task.yield()
        }
    }
}

/// One event as LiteLLM sends it, as short as it can be (`litellm.md` §4).
func litellmEvent(_ id: Int, key: String, model: String = "gpt-4", padding: Int = 0, fields: String = "") -> String {
    let start = Date().timeIntervalSince1970 - 60
    return """
        {"id":"chatcmpl-\(id)","litellm_call_id":"call-\(id)","call_type":"acompletion","status":"success",\
        "startTime":\(start),"endTime":\(start + 1),"model":"openai/\(model)","model_group":"\(model)",\
        "response_cost":0.0015,"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,\
        "messages":"\(String(repeating: "x", count: padding))","metadata":{"user_api_key_hash":"\(key)"}\(fields)}
        """
}
