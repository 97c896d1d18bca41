import HTTPSupport
import HTTPTypes
import TestSupport
import Testing

/// What is refused, and that nothing else is.
@Suite(.timeLimit(.minutes(30))) struct RefusalTests {
    @Test func onlyTheWebhookKeysAreAccepted() async throws {
        let previous = "an-older-key-of-more-than-32-characters-too"
        try await WebhookBench.with(["LITELLM_WEBHOOK_KEY_PREVIOUS": previous]) { bench in
            for key in [WebhookBench.key, previous, "Bearer \(previous)"] {
                #expect(try await bench.post(Array("[]".utf8), headers: [.apiKey: key]).status == 200)
                #expect(try await bench.post(Array("[]".utf8), headers: [.authorization: key]).status == 200)
            }
            for headers: HTTPFields in [[:], [.apiKey: ""], [.apiKey: WebhookBench.key + "x"]] {
                let answer = try await bench.post(Array("[]".utf8), headers: headers)
                #expect(answer.description == #"401 {"error":"Unauthorized","message":"Invalid webhook key"}"#)
            }
        }
    }

    @Test func aBodyOverTheLimitIsRefused() async throws {
        try await WebhookBench.with(["WEBHOOK_MAX_BODY_BYTES": "2048"]) { bench async throws in
            #expect(try await bench.post(String(repeating: " ", count: 2047)).status == 400)
            #expect(try await bench.post(String(repeating: " ", count: 2049)).status == 413)
        }
    }

    @Test func otherMethodsAndPathsAreRefused() async throws {
        try await WebhookBench.with { bench in
            let get = try await bench.send(.get, "/api/webhook/litellm")
            #expect(get.status == 405)
            #expect(get.headers[.allow]?.contains("POST") == true)
            #expect(try await bench.send(.post, "/api/nothing").status == 404)
        }
    }

    @Test func brokenBodiesNeverHideTheReadablePart() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let good = #"{"user_id":1,"usage":{"prompt_tokens":1}}"#
            #expect(try await bench.post("[\(good),\(good),{\"user").verdicts == ["stored", "stored", "unreadable"])
            #expect(try await bench.post("[null,\(good),3]").verdicts == ["unreadable", "stored", "unreadable"])
            #expect(try await bench.post("\(good)\n\(good)").verdicts == ["stored", "stored"])
        }
    }

    @Test func healthAndMetricsNeedNoKey() async throws {
        try await WebhookBench.with { bench async throws in
            #expect(try await bench.send(.get, "/health/live").status == 200)
            #expect(try await bench.send(.get, "/health/ready").status == 200)
            #expect(try await bench.send(.get, "/metrics").status == 200)
        }
    }
}
