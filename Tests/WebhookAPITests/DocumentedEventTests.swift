import HTTPTypes
import Postgres
import TestSupport
import Testing

/// The documented events, answered and stored as in `docs/laravel.md`.
@Suite(.timeLimit(.minutes(30))) struct DocumentedEventTests {
    private static let key = "cf_" + String(repeating: "a1", count: 32)
    private static let row: String = """
        SELECT concat_ws('|', user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                         error_message) FROM api_logs ORDER BY id DESC LIMIT 1
        """

    private func flat(_ key: String = Self.key, _ fields: String = #""response_time": 1.25"#) -> String {
        """
        {"user_id": "\(key)", "model": "gpt-4", "usage": {"prompt_tokens": 100, "completion_tokens": 50},
         "cost": 0.0015, "status": "success", \(fields)}
        """
    }

    @Test func theBriefsFlatAndNestedPayloads() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let flat = try await bench.post(flat())
            #expect(flat.status == 201)
            #expect(flat.body == #"{"success":true,"log_id":1}"#)
            #expect(try await bench.text(.init(unsafeSQL: Self.row)) == "1|gpt-4|100|50|0.001500|1250|success")
            let nested = try await bench.post(
                """
                {"user_id": "\(Self.key)", "model": "gpt-4", "messages": [{"role": "user", "content": "hi"}],
                 "response": {"model": "gpt-4", "usage": {"prompt_tokens": 100, "completion_tokens": 50,
                 "total_tokens": 150}, "cost": 0.0015, "response_time": 1.005}, "status": "success"}
                """)
            #expect(nested.body == #"{"success":true,"log_id":2}"#)
            #expect(try await bench.text(.init(unsafeSQL: Self.row)) == "1|gpt-4|100|50|0.001500|1005|success")
        }
    }

    @Test func anIdempotencyKeyOrEventIDCountsOnce() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for (first, again) in [
                (try await bench.post(flat(), idempotencyKey: "k"), try await bench.post(flat(), idempotencyKey: "k")),
                (
                    try await bench.post(flat(Self.key, #""event_id": "e""#)),
                    try await bench.post(flat(Self.key, #""event_id": "e""#))
                ),
            ] {
                #expect(first.status == 201)
                #expect(again.status == 200)
                #expect(again.logID == first.logID)
                #expect(again.json["duplicate"] as? Bool == true)
            }
            let other = try await bench.post(
                #"{"user_id": "cf_second", "usage": {"prompt_tokens": 1}}"#, idempotencyKey: "k")
            #expect(other.status == 200)
            #expect(other.json["conflict"] as? Bool == true)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 2)
        }
    }

    @Test func withoutAnIdentityEveryDeliveryCounts() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for _ in 0..<3 { #expect(try await bench.post(flat()).status == 201) }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 3)
        }
    }

    @Test func legacyRefusalsAreKept() async throws {
        try await WebhookBench.with { bench in
            let missing = try await bench.post(#"{"model": "gpt-4"}"#)
            #expect(missing.description == #"400 {"error":"user_id is required"}"#)
            let unknown = try await bench.post(flat("cf_nobody"))
            #expect(unknown.description == #"404 {"error":"User not found"}"#)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 2)
        }
    }

    @Test func laravelUserIDOfTheMetadataFindsTheUser() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let answer = try await bench.post(#"{"model": "gpt-4", "metadata": {"laravel_user_id": 2}}"#)
            #expect(answer.status == 201)
            #expect(try await bench.number("SELECT user_id FROM api_logs") == 2)
        }
    }

    /// The product brief's "User Mapping Hatası".
    @Test func anUnknownUserIDMapsToLaravelUserID() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for (index, userID) in [#""cf_nobody""#, "4711", #""4711""#, "1.5", "-3", "true", #"["x"]"#].enumerated() {
                for laravelUserID in ["2", #""2""#] {
                    let answer = try await bench.post(
                        #"{"user_id": \#(userID), "model": "m\#(index)", "#
                            + #""metadata": {"laravel_user_id": \#(laravelUserID)}}"#
                    )
                    #expect(answer.status == 201, "\(userID) \(answer)")
                }
            }
            let rows = "SELECT concat_ws(' ', count(*), min(user_id), max(user_id)) FROM api_logs"
            #expect(try await bench.text(.init(unsafeSQL: rows)) == "14 2 2")
            let flagged = "SELECT count(*) FROM metering.events WHERE flags = '{attributed_by_id}'"
            #expect(try await bench.number(.init(unsafeSQL: flagged)) == 14)
            for laravelUserID in ["4711", "0", "-2", "2.5", "null", "true", "[2]", #""x""#] {
                let answer = try await bench.post(
                    #"{"user_id": "cf_nobody", "metadata": {"laravel_user_id": \#(laravelUserID)}}"#)
                #expect(answer.description == #"404 {"error":"User not found"}"#, "\(laravelUserID)")
            }
            for userID in [#""\#(Self.key)""#, "1"] {
                let answer = try await bench.post(#"{"user_id": \#(userID), "metadata": {"laravel_user_id": 2}}"#)
                #expect(
                    answer.description == #"202 {"success":true,"quarantined":true,"reason":"identity_conflict"}"#)
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 14)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 10)
        }
    }

    @Test func aStatedRefusalCountsNothing() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for fields in [
                #""status": "rate_limited", "error": "slow down""#, #""error": {"code": 429, "message": "slow down"}"#,
                #""response": {"error": {"code": "429"}}"#,
            ] {
                #expect(
                    try await bench.post(
                        #"{"user_id": "\#(Self.key)", "usage": {"prompt_tokens": 5}, \#(fields)}"#
                    ).status == 201)
            }
            let rows = "SELECT concat_ws(' ', count(*), min(status), max(status)) FROM api_logs"
            #expect(try await bench.text(.init(unsafeSQL: rows)) == "3 rate_limited rate_limited")
            #expect(try await bench.number("SELECT count(*) FROM metering.quota_deltas") == 0)
        }
    }

    @Test func anEventThatCannotBeStoredIsAcceptedWithItsReason() async throws {
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            let answer = try await bench.post(#"{"user_id": 1, "cost": 1e400}"#)
            #expect(answer.description == #"202 {"success":true,"quarantined":true,"reason":"implausible_cost"}"#)
        }
    }
}
