import Foundation
import Postgres
import TestSupport
import Testing

/// Every body captured from the real LiteLLM (`docs/litellm.md`), through the whole service.
@Suite(.timeLimit(.minutes(30))) struct CapturedBodyTests {
    @Test func everyEventHasAVerdictAndASecondPostingStoresNothingNew() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let bodies = try Fixtures.litellm()
            #expect(bodies.count > 40)
            var events = 0
            for body in bodies {
                let answer = try await bench.post(body.bytes)
                #expect((200..<300).contains(answer.status), "\(body.name): \(answer)")
                if answer.status == 200, answer.json["results"] != nil {
                    // Foundation refuses the lone surrogate of one body, which has one event.
                    let elements = try? JSONSerialization.jsonObject(with: Data(body.bytes))
                    let count = (elements as? [Any])?.count ?? 1
                    #expect(answer.verdicts.count == count, "\(body.name)")
                    events += count
                }
            }
            #expect(events > 60)
            let kept: Set<String> = try await bench.kept()

            try await withThrowingTaskGroup(of: Void.self) { group in
                for body in bodies + bodies {
                    group.addTask {
                        let answer = try await bench.post(body.bytes)
                        #expect(!answer.verdicts.contains("stored"), "\(body.name): \(answer)")
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await bench.kept() == kept)
        }
    }

    @Test func aRetriedCallsFailureAndSuccessAreBothRows() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for name in ["retry_flaky_then_ok", "retry_flaky_then_ok-2"] {
                #expect(try await bench.post(Fixtures.litellm("1.109.1/\(name)")).verdicts == ["stored"])
            }
            let sums = try await bench.text(
                """
                SELECT concat_ws('|', string_agg(status, ' ' ORDER BY status), sum(input_tokens), sum(output_tokens),
                                 sum(total_cost)) FROM api_logs
                """)
            #expect(sums == "error success|1000|50|0.002250")
        }
    }

    @Test func theUserOfACallIsFound() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let cases = [
                "chat_success_upstream": "stored 42", "chat_success_hashedkey": "stored 43",
                "chat_success_useronly": "stored 44", "chat_success_skkey": "unknown_key",
                "pre_call_hook_limit": "stored 43", "auth_limit_proxyexc429": "unknown_key",
                "auth_unknown_key": "denied",
            ]
            for (name, outcome) in cases {
                let answer = try await bench.post(Fixtures.litellm("1.109.1/\(name)"))
                let logID = (answer.json["results"] as? [[String: Any]])?.first?["log_id"] as? Int
                let user = try await bench.text("SELECT user_id FROM api_logs WHERE id = \(logID ?? -1)")
                #expect(([answer.verdicts.first, user].compactMap { $0 }).joined(separator: " ") == outcome, "\(name)")
            }
        }
    }

    /// A denied call carries the raw string that the caller sent, which may be the hash of another user
    /// (`docs/litellm.md`).
    @Test func aDeniedCallHasNoUserAndItsKeyIsStoredNowhere() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let body = String(decoding: try Fixtures.litellm("1.109.1/auth_unknown_key"), as: UTF8.self)
            let victim = "1e0db5e41e1dda2138af715ac812d32518db5a5a3c4f2bbd2181fb29d3938de2"
            #expect(body.contains("cf_nothex"))
            #expect(try await bench.post(body).verdicts == ["denied"])
            let forged = body.replacing("cf_nothex", with: victim).replacing(
                "litellm_call_id\": \"", with: "litellm_call_id\": \"x")
            #expect(try await bench.post(forged).verdicts == ["denied"])
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 0)
            let kept = try await bench.everythingKept()
            #expect(!kept.contains("cf_nothex"))
            #expect(!kept.contains(victim))
        }
    }

    @Test func noKeyAndNoPromptIsKept() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for body in try Fixtures.litellm() { _ = try await bench.post(body.bytes) }
            let kept = try await bench.everythingKept()
            #expect(kept.contains("gpt-4o"))
            for secret in ["cf_a1111", "cf_b2222", "cf_c4444", "Merhaba"] {
                #expect(!kept.contains(secret), "\(secret) is kept")
            }
        }
    }
}

extension WebhookBench {
    /// What is stored and put aside, without what a repeated delivery may change.
    fileprivate func kept() async throws -> Set<String> {
        try await pool.withConnection { connection in
            Set(
                try connection.query(
                    """
                    SELECT l::text FROM api_logs l
                    UNION ALL SELECT e::text FROM metering.events e
                    UNION ALL SELECT q.id || q.reason FROM metering.quarantine q
                    """
                ).map { try $0.decode(0, as: String.self) })
        }
    }
}
