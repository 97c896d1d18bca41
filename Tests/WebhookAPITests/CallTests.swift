import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

/// What LiteLLM asks before a call, and what the answer says of its spools.
@Suite(.timeLimit(.minutes(30))) struct CallTests {
    private static let secondsKey = "cf_second"

    private func ask(_ bench: WebhookBench, _ key: String) async throws -> WebhookBench.Answer {
        try await bench.post(
            Array(#"{"key_hash":"\#(KeyHash(of: key).hex)"}"#.utf8), path: "/api/litellm/authorize")
    }

    /// An event of `cf_second`, by which its key is seen too: 100 tokens of input, 50 of output, 0.0015 USD.
    private func call(_ id: Int) -> String {
        litellmEvent(id, key: Self.secondsKey, startedAt: .init(timeIntervalSince1970: 1_795_435_200))
    }

    @Test func theAnswerHasTheHolderOfAKeyAndWhatIsLeft() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            try await bench.execute(
                """
                INSERT INTO metering.user_limits (user_id, period, requests, budget) VALUES (2, 'daily', 3, 0.01)
                """)
            try await bench.execute("INSERT INTO metering.user_models VALUES (2, '{gpt-4}')")
            #expect(try await bench.post("[\(call(1)),\(call(2))]").verdicts == ["stored", "stored"])
            // No delta was counted yet. What was committed counts all the same.
            let answer = try await ask(bench, Self.secondsKey)
            #expect(answer.status == 200)
            #expect(
                answer.body == """
                    {"user_id":2,"name":"Ada","plan":"starter","status":"active","allowed":true,"reason":null,\
                    "models":["gpt-4"],"windows":[\
                    {"period":"daily","resets_at":"2026-11-24T00:00:00.000Z",\
                    "requests":{"limit":3,"used":2,"remaining":1},\
                    "tokens":{"limit":100000,"used":300,"remaining":99700},\
                    "cost":{"limit":"0.01","used":"0.003","remaining":"0.007"}},\
                    {"period":"monthly","resets_at":"2026-12-01T00:00:00.000Z",\
                    "requests":{"limit":10000,"used":2,"remaining":9998},\
                    "tokens":{"limit":1000000,"used":300,"remaining":999700},\
                    "cost":{"limit":null,"used":"0.003","remaining":null}}]}
                    """)
            _ = try await bench.post("[\(call(3))]")
            let spent = try await ask(bench, Self.secondsKey)
            #expect(spent.json["allowed"] as? Bool == false)
            #expect(spent.json["reason"] as? String == "requests")
            try await bench.execute("UPDATE users SET status = 'suspended'")
            #expect(try await ask(bench, Self.secondsKey).json["reason"] as? String == "suspended")
        }
    }

    /// A budget, or what is used of it, can be NaN: by an older version, or by hand.
    @Test func aLimitThatCannotBeComputedRefuses() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            _ = try await bench.post("[\(call(1))]")
            try await bench.execute(
                """
                INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests, cost)
                VALUES (2, 'monthly', '2026-11-01', 9223372036854775807, 9223372036854775807, 'NaN')
                """)
            // Saturated counters are spent, and a cost that no budget limits decides nothing.
            #expect(try await ask(bench, Self.secondsKey).json["reason"] as? String == "requests")
            try await bench.execute("UPDATE metering.quota_usage SET tokens = 1, requests = 1")
            #expect(try await ask(bench, Self.secondsKey).json["allowed"] as? Bool == true)
            try await bench.execute(
                "INSERT INTO metering.user_limits (user_id, period, budget) VALUES (2, 'monthly', 5)")
            for change in [
                "UPDATE metering.quota_usage SET cost = 'NaN'", "UPDATE metering.quota_usage SET cost = 'Infinity'",
                "UPDATE metering.quota_usage SET cost = 1", "UPDATE metering.user_limits SET budget = 'NaN'",
            ] {
                try await bench.execute("\(unsafeSQL: change)")
                let answer = try await ask(bench, Self.secondsKey)
                let isComputable = change.hasSuffix("= 1")
                #expect(answer.status == 200 && answer.json["allowed"] as? Bool == isComputable, "\(change)")
                #expect(answer.json["reason"] as? String == (isComputable ? nil : "limit_unknown"), "\(change)")
                #expect(!answer.body.contains("NaN"))
            }
        }
    }

    @Test func anUnverifiedAccountSpendsNothing() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            _ = try await bench.post("[\(call(1))]")
            try await bench.execute("INSERT INTO metering.unverified_registrations VALUES (2, now())")
            let refused = try await ask(bench, Self.secondsKey)
            #expect(refused.json["allowed"] as? Bool == false)
            #expect(refused.json["reason"] as? String == "unverified")
            let windows = try #require(refused.json["windows"] as? [[String: Any]])
            for window in windows {
                for amount in ["requests", "tokens", "cost"] {
                    let limit = (window[amount] as? [String: Any])?["limit"]
                    #expect("\(limit ?? "")" == "0", "\(amount)")
                }
            }
            try await bench.execute("UPDATE users SET email_verified_at = now() WHERE id = 2")
            #expect(try await ask(bench, Self.secondsKey).json["allowed"] as? Bool == true)
        }
    }

    @Test func unknownCallersAndInvalidBodiesAreRefused() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let unknown = try await ask(bench, "cf_nobody")
            #expect(unknown.status == 200)
            #expect(unknown.json["reason"] as? String == "unknown_key")
            let path = "/api/litellm/authorize"
            for body in ["", "{}", #"{"key_hash":"cf_second"}"#] {
                #expect(try await bench.post(Array(body.utf8), path: path).status == 400)
            }
            #expect(try await bench.post([], path: path, headers: [.apiKey: "wrong"]).status == 401)
        }
    }

    @Test func aKeyThatLeftItsUserOpensNothing() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            _ = try await bench.post("[\(call(1))]")
            try await bench.execute("UPDATE users SET api_key = 'cf_new' WHERE id = 2")
            #expect(try await ask(bench, Self.secondsKey).json["reason"] as? String == "unknown_key")
        }
    }

    @Test func skippedNumbersOfASpoolAreMissingUntilTheyArrive() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            func send(_ numbers: ClosedRange<Int>, lost: Int = 0) async throws -> String {
                var headers: HTTPFields = [.apiKey: WebhookBench.key]
                headers[.spool] = "6f1f2c3a-0000-4000-8000-00000000000a"
                headers[.spoolFirst] = "\(numbers.lowerBound)"
                headers[.spoolLost] = "\(lost)"
                let body = "[\(numbers.map(call).joined(separator: ","))]"
                let answer = try await bench.post(Array(body.utf8), headers: headers)
                #expect(answer.status == 200)
                return answer.body.firstMatch(of: /"missing":(\[.*?\]\])/).map { String($0.1) } ?? ""
            }
            #expect(try await send(1...2).isEmpty)
            #expect(try await send(1...2).isEmpty)
            #expect(try await send(10...11) == "[[3,9]]")
            #expect(try await send(5...6) == "[[3,4],[7,9]]")
            #expect(try await send(12...12, lost: 4) == "[[3,4],[7,9]]")
            #expect(try await send(3...9).isEmpty)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 12)
            #expect(
                try await bench.text("SELECT concat_ws(' ', highest, gaps, lost, gap_since) FROM metering.spools")
                    == "12 {} 0")
        }
    }
}
