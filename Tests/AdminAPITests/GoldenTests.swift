import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// Laravel's own answers (`Tests/Fixtures/laravel/goldens`), replayed in order on databases as they were prepared.
@Suite(.timeLimit(.minutes(30))) struct GoldenTests {
    /// Where we differ on purpose: our status, and why.
    private static let deviations: [String: (status: Int, reason: String)] = [
        "017_register_name_with_nul_char": (422, "Laravel cut the name at NUL."),
        "022_register_validation_failure_without_accept_redirect": (422, "An API answers JSON, not a redirect."),
        "043_login_password_array": (422, "500 from client input."),
        "044_login_without_accept_wrong_password_redirect": (422, "An API answers JSON, not a redirect."),
        "079_unauthenticated_accept": (401, "An API answers JSON, not a redirect."),
        "080_unauthenticated_accept_text_html": (401, "An API answers JSON, not a redirect."),
        "086_bearer_huge_id": (401, "500 from client input."),
        "095_suspended_user_token_still_works": (403, "Suspended users are refused."),
        "097_rate_limits_first_call_rows_created_in_this_request_used_is_null": (200, "Nothing used is 0, not null."),
        "110_models_favorite_non_numeric_pg_error": (422, "500 from client input."),
        "125_settings_update_email_312_chars_no_max_rule_pg_varchar_error": (422, "500 from client input."),
        "295_x_http_method_override": (405, "A method is what it is: proxies and caches see no other."),
        "307_usage_log_user_id_abc_pg_error": (422, "500 from client input."),
        "308_usage_log_total_cost_overflow": (422, "No report costs more than Laravel's column holds."),
        "310_usage_log_model_256": (422, "500 from client input."),
        "322_usage_logs_per_page_1": (422, "A page has 1 to 1000 rows."),
        "323_usage_logs_per_page_abc": (422, "500 from client input."),
        "325_usage_logs_per_page_1_5": (422, "A page has a whole number of rows."),
        "326_usage_logs_per_page_100000": (422, "A page has 1 to 1000 rows; the export has all."),
        "334_usage_logs_per_page_5": (422, "500 from client input."),
        "347_usage_logs_date_from_garbage": (422, "500 from client input."),
        "349_usage_logs_date_from_2025_01_01": (422, "A list is no date; Laravel dropped the filter."),
        "350_usage_logs_date_from_2025_02_30": (422, "500 from client input."),
        "352_usage_logs_date_from_yesterday_per_page_1": (422, "A date is a date; PostgreSQL took the word."),
        "358_usage_export_seeded": (200, "Fields with commas and quotes are quoted."),
        "365_405_html": (405, "An API answers JSON, not a page."),
    ]

    @Test func accounts() async throws {
        try await replay(1..<48) { bench in
            try await bench.makeUser(900, email: "form@example.com", status: "suspended")
        }
    }

    @Test func tokensModelsLimitsAndSettings() async throws {
        try await replay(48..<300) { bench in
            try await bench.preparePeople()
            try await bench.execute(
                """
                INSERT INTO models (id, name, model_id, cost_per_1k_tokens, availability, description, created_at,
                                    updated_at)
                VALUES (1, 'GPT-4', 'openai/gpt-4', 0.03, true, 'big', '2025-12-27 12:55:52', '2025-12-27 12:55:52'),
                       (2, 'Claude Haiku', 'anthropic/claude-haiku-4-5', 0.001, true, NULL, '2025-12-27 12:55:52',
                        '2025-12-27 12:55:52'),
                       (3, 'Gone', 'x/gone', 1, false, NULL, NULL, NULL),
                       (4, 'apple lower', 'x/apple', 0.000001, true, '', NULL, NULL)
                """)
        } before: { name, bench in
            switch name.prefix(3) {
            case "094":
                try await bench.execute("UPDATE personal_access_tokens SET expires_at = '2026-01-01' WHERE id = 2")
            case "095":
                try await bench.execute("UPDATE personal_access_tokens SET expires_at = NULL")
                try await bench.execute("UPDATE users SET status = 'suspended' WHERE id = 2")
            case "118": try await bench.execute("UPDATE users SET name = 'Ada L'")
            default: break
            }
        }
    }

    @Test func reportedCalls() async throws {
        try await replay(300..<315) { try await $0.preparePeople() }
    }

    @Test func logsAndDashboards() async throws {
        try await replay(315..<376) { bench in
            // Laravel answered one second after its seeds.
            bench.clock.advance(by: .seconds(1))
            try await bench.preparePeople()
            try await bench.seedLogs(of: 1)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      created_at)
                VALUES (2, 'other', 1, 1, 1, 1, 'success', '2026-11-23 08:04:10'),
                       (2, 'other', 1, 1, 1, 1, 'success', '2026-11-23 08:04:10'),
                       (2, 'other', 1, 1, 1, 1, 'success', '2026-11-23 08:04:10'),
                       (2, 'nullts', 1, 1, 1, 1, 'success', NULL)
                """)
            try await bench.execute(
                """
                INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
                VALUES (1, 'daily', '2026-11-23', 120, 9), (1, 'monthly', '2026-11-01', 120, 9)
                """)
        }
    }

    @Test func theDifferencesAreGoldens() throws {
        let names = Set(try Fixtures.apiGoldens().map(\.name))
        #expect(names.count > 90)
        #expect(names.isSuperset(of: Self.deviations.keys))
    }

    /// Sends the goldens whose numbers are in `range` and compares answers, except for what belongs to Laravel's own
    /// run.
    private func replay(
        _ range: Range<Int>, _ prepare: @escaping @Sendable (AdminBench) async throws -> Void,
        before: @escaping @Sendable (String, AdminBench) async throws -> Void = { _, _ in }
    ) async throws {
        let goldens = try Fixtures.apiGoldens().filter { range.contains(Int($0.name.prefix(3)) ?? 0) }
        #expect(!goldens.isEmpty)
        try await AdminBench.with(["ADMIN_REGISTRATION": "open"]) { bench in
            try await prepare(bench)
            for golden in goldens {
                try await before(golden.name, bench)
                var headers = HTTPFields()
                for (name, value) in golden.headers {
                    if let field = HTTPField.Name(name) { headers[field] = value }
                }
                let answer = try await bench.send(
                    HTTPRequest.Method(golden.method) ?? .get, golden.path,
                    golden.hasBody ? String(decoding: golden.body, as: UTF8.self) : nil, headers: headers)
                let deviation = Self.deviations[golden.name]
                #expect(answer.status == deviation?.status ?? golden.status, "\(golden.name): \(answer)")
                if deviation == nil { compare(answer, with: golden) }
            }
        }
    }

    private func compare(_ answer: AdminBench.Answer, with golden: GoldenRequest) {
        guard let expected = JSON(parsing: Array(golden.responseBody.utf8)) else {
            #expect(answer.body == golden.responseBody, "\(golden.name)")
            return
        }
        let ours = answer.json?.comparable(golden.name)
        #expect(
            ours == expected.comparable(golden.name), "\(golden.name): \(answer.body)\nis not\n\(golden.responseBody)")
    }
}

extension AdminBench {
    /// Ada and Bob with the tokens that the goldens send.
    fileprivate func preparePeople() async throws {
        try await makeUser(1, name: "Ada", email: "ada@example.com")
        try await makeUser(2, name: "Bob", email: "bob@example.com")
        let tokens = try Fixtures.apiGoldens().flatMap(\.headers).filter { $0.0 == "Authorization" }.compactMap {
            header in
            header.1.wholeMatch(of: /Bearer (17|18|2)\|([A-Za-z0-9]{48})/).map { (String($0.1), String($0.2)) }
        }
        for (id, secret) in Dictionary(tokens, uniquingKeysWith: { first, _ in first }) {
            try await execute(
                """
                INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, abilities)
                VALUES (\(id)::bigint, 'App\\Models\\User', \(id == "2" ? 2 : 1), 'auth-token',
                        encode(sha256(convert_to(\(secret), 'UTF8')), 'hex'), '["*"]')
                """)
        }
    }
}

extension JSON {
    /// The answer without what differs from run to run: tokens, keys, hosts, times of users and new ids. Entries with
    /// equal counts are sorted, because Laravel leaves them in any order.
    fileprivate func comparable(_ golden: String) -> JSON {
        switch self {
        case .string(let text):
            if text.wholeMatch(of: /\d+\|[A-Za-z0-9]{48}/) != nil { return "token" }
            if text.wholeMatch(of: /cf_.*/) != nil { return "key" }
            return .string(text.replacing(/http:\/\/(127\.0\.0\.1:5581|localhost)/, with: "http://host"))
        case .array(let elements): return .array(elements.map { $0.comparable(golden) })
        case .object(let members):
            let isUser = self["email"] != nil
            let isReported = golden.contains("usage_log_")
            return .object(
                members.map { member in
                    switch member.key {
                    case "created_at" where isUser || isReported, "updated_at" where isUser || isReported:
                        .init(member.key, 0)
                    case "id" where isUser || isReported: .init(member.key, 0)
                    case "top_models", "models": .init(member.key, member.value.sorted.comparable(golden))
                    default: .init(member.key, member.value.comparable(golden))
                    }
                })
        default: return self
        }
    }

    private var sorted: JSON { .array((elements ?? []).sorted { String(describing: $0) < String(describing: $1) }) }
}
