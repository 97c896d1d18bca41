import AsyncHTTPClient
import Domain
import Foundation
import NIOCore
import NIOHTTP1
import Postgres
import Storage

/// Whether our module works in the proxy, as a stranger and as a customer see it.
struct LiteLLMChecks: Sendable {
    /// The proxy.
    let url: URL

    /// A key that nobody has must be refused by us and nobody else.
    func module() async -> Finding {
        let subject = "module"
        switch await ask("v1/models", key: "cf_" + UUID().uuidString, body: nil) {
        case nil:
            return .failure(subject, "the proxy gives no answer", "See LiteLLM's log.")
        case (401, let body)? where body.contains("This API key is not known"):
            return .ok(subject, "refuses a key that nobody has")
        case (503, _)?:
            return .failure(
                subject, "cannot ask webhook-api about keys",
                "Correct CODEXFLOW_URL and LITELLM_WEBHOOK_KEY in LiteLLM's environment.")
        case (200, _)?:
            return .failure(
                subject, "is not there: the proxy lets anybody in",
                "Set custom_auth and master_key as 'codexflow litellm config' prints them.")
        default:
            return .failure(
                subject, "is not there: LiteLLM judges keys by itself",
                "Set custom_auth as 'codexflow litellm config' prints it, with codexflow.py beside config.yaml.")
        }
    }

    /// One call with a customer's key, until its row is there.
    func call(key: String, model: String, pool: ConnectionPool) async -> [Finding] {
        let mark = "codexflow-check-\(UUID().uuidString)"
        let began = Timestamp.now
        let question: [String: any Sendable] = [
            "model": model, "user": mark, "max_tokens": 5, "messages": [["role": "user", "content": "Hello!"]],
        ]
        let body = (try? JSONSerialization.data(withJSONObject: question)) ?? Data()
        guard let (status, answer) = await ask("v1/chat/completions", key: key, body: body) else {
            return [.failure("call", "the proxy gives no answer", "See LiteLLM's log.")]
        }
        guard status == 200 else {
            let words = try? JSONDecoder().decode(Refusal.self, from: Data(answer.utf8)).error.message
            return [
                .failure(
                    "call", "is answered \(status): \((words ?? "no words").scrubbed(of: [key]).prefix(200))",
                    "Correct that, or name a model that LiteLLM has with --model.")
            ]
        }
        let answered = ContinuousClock.now
        while ContinuousClock.now - answered < .seconds(20) {
            if let user = try? await rowOwner(of: mark, since: began, pool) {
                let seconds = (ContinuousClock.now - answered) / .seconds(1)
                let age = String(format: "%.1f", seconds)
                return [.ok("call", "is a row of user \(user), \(age) s after its answer")]
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return [
            .failure(
                "call", "was answered, and is no row 20 s later",
                "See 'events are not delivered' in LiteLLM's log, and 'codexflow quarantine list'.")
        ]
    }

    private struct Refusal: Decodable {
        struct Words: Decodable {
            let message: String
        }

        let error: Words
    }

    private func rowOwner(of mark: String, since began: Timestamp, _ pool: ConnectionPool) async throws -> Int64? {
        try await pool.withConnection { try CallTrace.user(ofEndUser: mark, since: began, $0) }
    }

    private func ask(_ path: String, key: String, body: Data?) async -> (Int, String)? {
        var request = HTTPClientRequest(url: url.appending(path: path).absoluteString)
        request.headers.add(name: "Authorization", value: "Bearer \(key)")
        if let body {
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        guard let response = try? await HTTPClient.shared.execute(request, timeout: .seconds(60)),
            let answer = try? await response.body.collect(upTo: 1 << 20)
        else { return nil }
        return (Int(response.status.code), String(buffer: answer))
    }
}
