import Domain
import Foundation
import Postgres
import TestSupport
import Testing

/// What is kept of unreadable bodies and of errors: nothing in which a prompt could stand.
@Suite(.timeLimit(.minutes(30))) struct PrivacyTests {
    private static let mark = "Zq9PromptMark"

    /// An event as LiteLLM sends it, with the mark in every place that is no fact of the call.
    private static func event(_ id: Int, spoiling place: Int) -> String {
        let quoted = "\(mark) said 'it' \\\"twice\\\""
        let members = [
            #""messages": [{"role": "user", "content": "\#(quoted)"}]"#,
            #""response": {"choices": [{"x": "\#(quoted)"}]}"#,
            #""\#(mark)": "\#(quoted)""#, #""input": "\#(quoted)""#,
            #""hidden_params": {"\#(mark)": ["\#(quoted)", {"\#(mark)": 1}]}"#,
            #""error_str": "Invalid value: '\#(quoted)'""#,
            #""error_information": {"error_code": "\#(quoted)", "error_class": "\#(quoted)", "#
                + #""error_message": "BadRequestError: {'error': '\#(quoted)'}", "traceback": "\#(quoted)"}"#,
        ]
        let status = place % 2 == 0 ? "failure" : "success"
        return """
            {"id": "i\(id)", "litellm_call_id": "c\(id)", "call_type": "acompletion", "status": "\(status)", \
            "response_cost": 0.0015, "prompt_tokens": 10, "completion_tokens": 20, "startTime": 1795420742.\(id), \
            "endTime": 1795420743.25, "model": "openai/gpt-4", "model_group": "gpt-4", \
            \(members.joined(separator: ", ")), \
            "metadata": {"user_api_key_hash": "cf_second", "requester_metadata": {"x": "\(quoted)"}}}
            """
    }

    @Test func aMarkInAPromptIsInNoTable() async throws {
        try await withTestDatabase { database in
            try await WebhookBench.with(on: database) { bench in
                try await bench.makePeople()
                var random = SplitMix64(seed: TestSeed.seed(standard: 11))
                for round in 0..<300 {
                    let events = [
                        Self.event(round, spoiling: round), Self.event(round + 1000, spoiling: round + 1),
                    ]
                    var body = Array((round % 3 == 0 ? events[0] : "[\(events.joined(separator: ","))]").utf8)
                    // Cut anywhere at either end, spoilt anywhere, or with the mark where it makes the text unreadable.
                    if round % 2 == 0 { body = Array(body.prefix(Int.random(in: 1...body.count, using: &random))) }
                    if round % 5 == 0 { body = Array(body.dropFirst(Int.random(in: 0..<body.count, using: &random))) }
                    if round % 7 == 0 {
                        let place = Int.random(in: 0...body.count, using: &random)
                        let spoilt = [
                            "\(Self.mark)", "\"\(Self.mark)\":", "\0\(Self.mark)", "{\"\(Self.mark)", "\\", "\"",
                        ]
                        body.insert(contentsOf: (spoilt.randomElement(using: &random) ?? "").utf8, at: place)
                    }
                    #expect(try await bench.post(body).status < 500)
                }
                for body in [
                    Self.mark, "\"\(Self.mark)\"", "{\"\(Self.mark)\": 1", "{\"status\": \"\(Self.mark)\"",
                    "{\"startTime\": \(Self.mark)}",
                    "{\"call_type\": \(Self.mark) \"success\"", "[\(Self.mark)]", "{\"user_id\": \"\(Self.mark)",
                    "\u{FEFF}\(Self.mark)",
                    "{\"litellm_call_id\": \"\(Self.mark)\", ", "{\"stream\" \"\(Self.mark)\": true, {",
                ] { #expect(try await bench.post(body).status < 500) }
                #expect(
                    try await bench.number("SELECT count(*) FROM metering.quarantine WHERE reason = 'unreadable'") > 100
                )
                #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE status = 'error'") > 50)
            }
            let dump = try await Command.run(
                "/usr/bin/env", ["pg_dump", "--dbname", database.configuration.url, "--inserts"],
                environment: ProcessInfo.processInfo.environment)
            #expect(dump.contains("INSERT INTO metering.quarantine"))
            for mark in [Self.mark, String(Self.mark.dropFirst(3)), String(Self.mark.dropLast(3))] {
                let line = dump.split(separator: "\n").first { $0.contains(mark) }
                #expect(line == nil, "\(line ?? "")")
            }
        }
    }

    @Test(arguments: [
        ("code", "BadRequestError 400"), ("line", "Bad value …"), ("full", "Bad value 'x'"), ("", "Bad value …"),
    ])
    func theOperatorChoosesHowMuchOfAnErrorIsKept(setting: String, kept: String) async throws {
        try await WebhookBench.with(["METERING_ERROR_TEXT": setting]) { bench in
            try await bench.makePeople()
            let error = #""error_code": "400", "error_class": "BadRequestError", "error_message": "Bad value 'x'""#
            let body = """
                {"id": "i", "litellm_call_id": "c", "call_type": "acompletion", "status": "failure", \
                "startTime": 1795420742.5, "endTime": 1795420743.25, \
                "metadata": {"user_api_key_hash": "cf_second"}, "error_information": {\(error)}}
                """
            #expect(try await bench.post(body).verdicts == ["stored"])
            #expect(try await bench.text("SELECT error_message FROM api_logs") == kept)
            // A documented event's text is its sender's own.
            let own = #"{"user_id": "cf_second", "error": {"message": "mine: 'x'"}}"#
            #expect(try await bench.post(own).status == 201)
            let text = try await bench.text("SELECT error_message FROM api_logs ORDER BY id DESC LIMIT 1")
            #expect(text == (setting == "code" ? nil : "mine: 'x'"))
        }
    }
}
