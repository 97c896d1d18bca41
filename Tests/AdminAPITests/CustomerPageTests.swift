import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import NIOCore
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The pages of a customer, without a browser: signing in, the figures, the logs, and the key.
@Suite(.timeLimit(.minutes(30))) struct CustomerPageTests {
    /// A browser that keeps its cookies.
    private actor Visitor {
        let bench: AdminBench
        private(set) var cookies: [String: String] = [:]
        private(set) var setCookies: [String] = []

        init(_ bench: AdminBench) {
            self.bench = bench
        }

        private var headers: HTTPFields {
            [
                .cookie: cookies.map { "\($0.key)=\($0.value)" }.joined(separator: "; "), .acceptLanguage: "en",
                .contentType: "application/x-www-form-urlencoded",
            ]
        }

        private func keep(_ answer: AdminBench.Answer) {
            setCookies = answer.headers[values: .setCookie]
            for cookie in setCookies {
                let pair = cookie.prefix { $0 != ";" }.split(separator: "=", maxSplits: 1).map(String.init)
                cookies[pair[0]] = pair.count == 2 ? pair[1] : nil
            }
        }

        func get(_ path: String) async throws -> AdminBench.Answer {
            let answer = try await bench.send(.get, "/dashboard\(path)", headers: headers)
            keep(answer)
            return answer
        }

        func post(_ path: String, _ fields: [String: String]) async throws -> AdminBench.Answer {
            let form = fields.map { "\($0.key)=\($0.value.percentEncoded)" }.joined(separator: "&")
            let answer = try await bench.send(.post, "/dashboard\(path)", form, headers: headers)
            keep(answer)
            return answer
        }

        /// The token of the forms of a page.
        func formToken(_ path: String) async throws -> String {
            let page = try await get(path)
            let match = try #require(page.body.firstMatch(of: /name="_token" value="([0-9a-f]+)"/), "\(page)")
            return String(match.1)
        }

        func signIn(_ email: String) async throws -> AdminBench.Answer {
            let token = try await formToken("/sign-in")
            return try await post("/sign-in", ["_token": token, "email": email, "password": "password1"])
        }
    }

    /// Gives `body` a service with the customers 1 and 2 and the operator 3; the browser is signed in as user 1.
    private func signedIn(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (AdminBench, Visitor) async throws -> Void
    ) async throws {
        try await AdminBench.with(environment) { bench in
            for id in Int64(1)...3 { try await bench.makeUser(id, isAdmin: id == 3) }
            let visitor = Visitor(bench)
            let answer = try await visitor.signIn("user1@example.com")
            #expect(answer.status == 303 && answer.headers[.location] == "/dashboard/overview", "\(answer)")
            try await body(bench, visitor)
        }
    }

    @Test func theFormSetsACookieThatNoScriptReadsAndNoOtherSiteSends() async throws {
        try await signedIn { bench, visitor in
            let cookie = try #require(await visitor.setCookies.first { $0.hasPrefix("codexflow_session=") })
            let parts = Set(cookie.split(separator: ";").dropFirst().map(\.trimmingSpaces).map(String.init))
            #expect(parts.isSuperset(of: ["HttpOnly", "SameSite=Strict", "Path=/"]), "\(cookie)")
            #expect(try await visitor.get("/operator/logs").status == 403)
            #expect(try await visitor.get("/operator/logs.csv").status == 403)
            let refused = try await visitor.post("/key/rotate", ["_token": "00", "confirm": "yes"])
            #expect(refused.status == 419)
            #expect(try await bench.text("SELECT api_key FROM users WHERE id = 1") == "cf_key_of_1")
        }
    }

    @Test func theOverviewHasTheFiguresOfTheAPI() async throws {
        try await signedIn { bench, visitor in
            try await bench.seedLogs(of: 1)
            try await Self.useBudget(of: 1, bench)
            let page = try await visitor.get("/overview")
            let token = try await bench.token(of: 1)
            let summary = try await bench.get("/api/v1/analytics/summary?from=2026-11-01", as: token).json?["current"]
            let limits = try await bench.get("/api/v1/me", as: token).json?["limits"]
            let monthly = try #require(limits?["monthly"])
            let figures = [
                "month-cost": summary?["cost"], "month-tokens": summary?["total_tokens"],
                "month-requests": summary?["requests"], "month-error-rate": summary?["error_rate"],
                "month-latency": summary?["duration_ms"]?["p50"],
                "monthly-tokens": monthly["tokens"]?["remaining"],
                "monthly-requests": monthly["requests"]?["remaining"],
                "monthly-budget": monthly["budget"]?["remaining"],
            ]
            for (id, figure) in figures {
                let value = try #require(figure)
                let text = value.text ?? String(decoding: value.buffer.readableBytesView, as: UTF8.self)
                #expect(page.body.contains("id=\"\(id)\" data-value=\"\(text)\""), "\(id): \(text)")
            }
            let expected: JSON = [
                "limit": "5", "used": "1.75", "remaining": "3.25", "percent": 35, "exhausted_at": .null,
            ]
            #expect(monthly["budget"] == expected)
            #expect(limits?["daily"]?["budget"] == JSON.null)
        }
    }

    /// A budget of 5 USD a month, of which 1.25 are counted, and 0.5 are not counted yet.
    private static func useBudget(of user: Int64, _ bench: AdminBench) async throws {
        try await bench.execute(
            "INSERT INTO metering.user_limits (user_id, period, budget) VALUES (\(user), 'monthly', 5)")
        try await bench.execute(
            """
            INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests, cost)
            VALUES (\(user), 'monthly', '2026-11-01', 10, 1, 1.25)
            """)
        try await bench.execute(
            """
            INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
            VALUES (ARRAY[\(user)]::bigint[], ARRAY['2026-11-22'::date], ARRAY[7]::bigint[], ARRAY[1]::bigint[],
                    ARRAY[0.5])
            """)
    }

    @Test func beforeTheFirstEventThePageShowsHowToSendOne() async throws {
        try await signedIn(["ADMIN_PROXY_URL": "https://proxy.example/"]) { bench, visitor in
            try await bench.execute(
                """
                INSERT INTO models (name, model_id, cost_per_1k_tokens, availability, created_at, updated_at)
                VALUES ('House', 'house-1', 0.1, true, now(), now())
                """)
            let empty = try await visitor.get("/overview")
            let call = ["curl https://proxy.example/v1/chat/completions", "Bearer cf_key_…", "house-1", "from openai"]
            for part in call { #expect(empty.body.contains(part), "\(part)") }
            #expect(empty.body.contains("Make your first call") && !empty.body.contains("id=\"month-cost\""))
            #expect(!empty.body.contains("<table id=\"cost-table\">"))
            let turkish = try await visitor.get("/overview?language=tr")
            #expect(turkish.status == 303)
            #expect(try await visitor.get("/overview").body.contains("İlk çağrınızı yapın"))
            try await bench.seedLogs(of: 1, count: 1)
            let used = try await visitor.get("/overview")
            #expect(!used.body.contains("İlk çağrınızı yapın") && used.body.contains("id=\"month-cost\""))
        }
    }

    @Test func withoutItsSettingThePageSaysWhatTheOperatorSets() async throws {
        try await signedIn(["LITELLM_PROXY_URL": "http://litellm.internal:4000"]) { _, visitor in
            for path in ["/key", "/overview"] {
                let page = try await visitor.get(path)
                #expect(page.body.contains("ADMIN_PROXY_URL") && page.body.contains("curl https://PROXY/v1"))
                #expect(!page.body.contains("litellm.internal"))
            }
        }
    }

    @Test func everyPageSaysAsOfWhenAndThroughWhenItIsComplete() async throws {
        try await signedIn { bench, _ in
            let person = Visitor(bench)
            _ = try await person.signIn("user3@example.com")
            let plain = [
                "/overview", "/logs", "/key", "/operator", "/operator/users", "/operator/users/1", "/operator/logs",
                "/operator/plans", "/operator/requests", "/operator/quarantine", "/operator/health", "/operator/audit",
            ]
            for path in plain {
                let page = try await person.get(path)
                #expect(page.body.contains(/As of <time datetime="20[0-9T:.\-]+Z">/), "\(path)")
                #expect(page.body.contains("complete through the same moment."), "\(path)")
                #expect(page.body.contains("Times are in UTC."), "\(path)")
            }
            try await bench.execute(
                """
                INSERT INTO metering.spools (spool, highest, gaps, gap_since, lost, seen_at)
                VALUES (gen_random_uuid(), 9, '{[3,5)}', '2026-11-22 07:00:00Z', 0, '2026-11-23 08:00:00Z')
                """)
            for path in ["/overview", "/logs", "/operator", "/operator/users", "/operator/users/1", "/operator/logs"] {
                let page = try await person.get(path)
                #expect(page.body.contains("<time datetime=\"2026-11-22T07:00:00.000Z\">"), "\(path)")
                #expect(!page.body.contains("complete through the same moment."), "\(path)")
            }
            #expect(try await person.get("/nothing").body.contains("data-live=\"as-of\"") == false)
        }
    }

    @Test func theListAndItsFileHoldTheSameCalls() async throws {
        try await signedIn { bench, visitor in
            try await bench.seedLogs(of: 1)
            try await bench.seedLogs(of: 2, count: 3)
            let query = "from=2026-11-01&to=2026-11-20&status=error"
            let list = try await visitor.get("/logs?\(query)")
            let rows = list.body.matches(of: /<tr data-id="(\d+)"/).map { String($0.1) }
            let file = try await visitor.get("/logs.csv?\(query)")
            #expect(file.headers[.contentDisposition] == "attachment; filename=\"codexflow-logs.csv\"")
            let lines = file.body.split(whereSeparator: \.isNewline).dropFirst().dropLast()
            #expect(rows == lines.map { String($0.prefix { $0 != "," }) }, "\(list)")
            let count = try await bench.number(
                """
                SELECT count(*) FROM api_logs WHERE user_id = 1 AND status = 'error'
                    AND created_at >= '2026-11-01' AND created_at < '2026-11-21'
                """)
            #expect(rows.count == count && count > 0)
            let first = try await visitor.get("/logs/\(try #require(rows.first))")
            #expect(first.status == 200 && first.body.contains("badge error"), "\(first)")
            let other = try await bench.number("SELECT min(id) FROM api_logs WHERE user_id = 2")
            #expect(try await visitor.get("/logs/\(other)").status == 404)
            #expect(try await visitor.get("/logs?from=2026-11-20&to=2026-11-01").status == 422)
            #expect(try await visitor.get("/logs?min_cost=much").status == 422)
        }
    }

    @Test func aNewKeyIsShownOnceAfterItIsConfirmed() async throws {
        try await signedIn { bench, visitor in
            let token = try await visitor.formToken("/key")
            #expect(try await visitor.post("/key/rotate", ["_token": token]).status == 422)
            #expect(try await bench.text("SELECT api_key FROM users WHERE id = 1") == "cf_key_of_1")
            let answer = try await visitor.post("/key/rotate", ["_token": token, "confirm": "yes"])
            let key = try #require(try await bench.text("SELECT api_key FROM users WHERE id = 1"))
            #expect(key != "cf_key_of_1" && answer.body.contains("class=\"secret\">\(key)<"), "\(answer.status)")
            #expect(answer.headers[.cacheControl] == "no-store")
            let later = try await visitor.get("/key")
            #expect(!later.body.contains(key) && later.body.contains("\(key.prefix(7))…"))
        }
    }

    @Test func aRequestForHigherLimitsIsListedWithItsState() async throws {
        try await signedIn { bench, visitor in
            let token = try await visitor.formToken("/overview")
            let path = "/overview/limit-requests"
            #expect(try await visitor.post(path, ["_token": token, "period": "monthly"]).status == 422)
            let fields = ["_token": token, "period": "monthly", "reason": "<b>İzmir</b> & more"]
            let sent = try await visitor.post(path, fields)
            #expect(sent.status == 303 && sent.headers[.location] == "/dashboard/overview?done=limits_requested")
            let page = try await visitor.get("/overview")
            #expect(page.body.contains("&lt;b&gt;İzmir&lt;/b&gt; &amp; more"), "\(page)")
            let stored = try await bench.text("SELECT reason FROM metering.limit_requests WHERE user_id = 1")
            #expect(stored == "<b>İzmir</b> & more")
        }
    }
}
