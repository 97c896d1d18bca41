import HTTPTypes
import Postgres
import TestSupport
import Testing

/// Laravel's own webhook answers (`Tests/Fixtures/laravel/goldens`): the same where its behaviour is sound.
@Suite(.timeLimit(.minutes(30))) struct GoldenTests {
    /// Goldens whose behaviour is a defect (`docs/laravel.md`) or Laravel's looseness, and what we answer instead.
    private static let corrected: [String: Int] = [
        // Not text or a number: nobody, instead of the first element, PHP's truncation or true as 1.
        "143_webhook_numeric_string_float_1_9": 404, "145_webhook_user_id_float_1_5": 404,
        "152_webhook_user_id_array": 404,
        // 500 from client input.
        "181_webhook_error_message_array_500": 201, "182_webhook_error_message_object_500": 201,
        "197_webhook_tokens_int32_max": 201, "199_webhook_tokens_int64_overflow_float": 201,
        "200_webhook_tokens_string_huge": 201, "212_webhook_cost_9999_9999999_rounds_up_to_overflow": 201,
        "214_webhook_cost_1e300": 202, "229_webhook_response_time_garbage_string_typeerror": 201,
        "230_webhook_response_time_garbage_string_without_accept_html_500": 201,
        "233_webhook_response_time_array_typeerror": 201, "254_webhook_model_array": 201,
        "257_webhook_model_256_chars": 201, "299_webhook_rate_limit_int32_overflow_log_row_stays_500": 201,
        // Negative and infinite money is kept aside.
        "226_webhook_cost_string_inf": 202,
        // Content, not its header, decides; and content never loses an event.
        "265_webhook_json_array_body": 200, "262_webhook_invalid_json": 200, "271_webhook_lone_surrogate_escape": 201,
        "272_webhook_bom": 201, "280_webhook_json_without_content_type": 201,
        // The record of this one is cut short.
        "278_webhook_1mb_messages": 200,
        "283_webhook_uppercase_content_type": 201, "284_webhook_form_encoded": 200,
    ]

    @Test func everyWebhookGoldenIsAnsweredAlike() async throws {
        let goldens = try Fixtures.webhookGoldens()
        #expect(goldens.count > 100)
        #expect(Set(Self.corrected.keys).isSubset(of: goldens.map(\.name)))
        try await WebhookBench.with { bench in
            try await bench.makePeople()
            for golden in goldens {
                var headers = HTTPFields()
                for (name, value) in golden.headers {
                    guard let field = HTTPField.Name(name) else { continue }
                    headers[field] = value.replacing("test-webhook-key", with: WebhookBench.key)
                }
                let answer = try await bench.send(
                    HTTPRequest.Method(golden.method) ?? .post, golden.path, body: golden.body, headers: headers)
                if let status = Self.corrected[golden.name] {
                    #expect(answer.status == status, "\(golden.name): \(answer)")
                    continue
                }
                #expect(answer.status == golden.status, "\(golden.name): \(answer)")
                if [400, 401, 404].contains(golden.status) {
                    #expect(answer.body == golden.responseBody, "\(golden.name)")
                }
                if golden.status == 201, let row = golden.row {
                    let stored = try await bench.text(
                        """
                        SELECT concat_ws('|', user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                         status) FROM api_logs WHERE id = \(answer.logID ?? -1)
                        """)
                    #expect(stored == Self.rows[golden.name] ?? row, "\(golden.name)")
                }
            }
        }
    }

    /// Rows that differ from Laravel's: its defects, corrected.
    private static let rows: [String: String] = [
        // A documented status is no longer ignored.
        "184_webhook_status_error_without_error_field_is_ignored": "1|gpt-4|100|50|0.001500|1250|error",
        "185_webhook_status_rate_limited_is_ignored": "1|gpt-4|100|50|0.001500|1250|rate_limited",
        // No number, or below zero, is no tokens.
        "188_webhook_tokens_garbage_strings": "1|gpt-4|0|0|0.001500|1250|success",
        "190_webhook_tokens_floats": "1|gpt-4|10|0|0.001500|1250|success",
        "191_webhook_tokens_negative_decrements_used_tokens": "1|gpt-4|0|0|0.001500|1250|success",
        "194_webhook_tokens_booleans": "1|gpt-4|0|0|0.001500|1250|success",
        "196_webhook_tokens_objects": "1|gpt-4|0|0|0.001500|1250|success",
        // No number is no price.
        "223_webhook_cost_array": "1|gpt-4|100|50|0.000000|1250|success",
        "224_webhook_cost_true": "1|gpt-4|100|50|0.000000|1250|success",
        // Milliseconds are rounded from the literal, and never below zero.
        "235_webhook_response_time_negative": "1|gpt-4|100|50|0.001500|0|success",
        "236_webhook_response_time_1_001_truncation": "1|gpt-4|100|50|0.001500|1001|success",
        "241_webhook_response_time_0_0009": "1|gpt-4|100|50|0.001500|1|success",
        "244_webhook_response_time_1e300": "1|gpt-4|100|50|0.001500|2147483647|success",
        // No model is unknown; NUL is dropped, and what follows it stays.
        "253_webhook_model_false": "1|unknown|100|50|0.001500|1250|success",
        "259_webhook_model_nul": "1|ab|100|50|0.001500|1250|success",
    ]
}
