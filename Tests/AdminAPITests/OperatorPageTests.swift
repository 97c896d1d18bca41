import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The operator's overview and pages of users.
@Suite(.timeLimit(.minutes(30))) struct OperatorPageTests {
    private static let users = "/dashboard/operator/users"

    /// A person who is signed in to the pages.
    private struct Visitor: Sendable {
        let bench: AdminBench
        let token: String
        let cookie: String

        init(_ bench: AdminBench, _ user: Int64) async throws {
            self.bench = bench
            token = try await bench.token(of: user)
            let hash = try await bench.text("SELECT password FROM users WHERE id = \(user)") ?? ""
            cookie = "codexflow_session=\(token)~\(PageCookie.Session(token: token, passwordHash: hash).seal)"
        }

        func get(_ path: String, language: String = "en") async throws -> AdminBench.Answer {
            try await bench.send(.get, path, headers: [.cookie: cookie, .acceptLanguage: language])
        }

        /// Sends a form, with a valid token unless `token` is another.
        func post(
            _ path: String, _ fields: KeyValuePairs<String, String>, token: String? = nil, language: String = "en"
        ) async throws -> AdminBench.Answer {
            let token = token ?? FormKey(secret: self.token).token()
            let form = (fields.map { ($0.key, $0.value) } + [("_token", token)])
                .map { "\($0.0)=\($0.1.percentEncoded)" }.joined(separator: "&")
            return try await bench.send(
                .post, path, form,
                headers: [
                    .cookie: cookie, .acceptLanguage: language, .contentType: "application/x-www-form-urlencoded",
                ])
        }
    }

    /// A database with the operator 1 and the customer 2.
    private func withVisitors(_ body: @escaping @Sendable (AdminBench, Visitor) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.makeUser(2, name: "<script>alert(1)</script>\u{202E}")
            try await body(bench, try await Visitor(bench, 1))
        }
    }

    /// The `data-value` of the element that `name` names.
    private func value(_ name: String, in page: AdminBench.Answer) throws -> String {
        let pattern = try Regex("data-name=\"\(name)\"\\s+data-value=\"([^\"]*)\"")
        let match = try #require(page.body.firstMatch(of: pattern), "no \(name)")
        return String(match.output[1].substring ?? "")
    }

    @Test func aFormChangesTheUserAndTheAuditLogRecordsIt() async throws {
        try await withVisitors { bench, visitor in
            let made = try await visitor.post(
                Self.users, ["name": "Ğrace", "email": "grace@example.com", "password": "", "plan": "pro"])
            #expect(made.status == 201, "\(made)")
            let key = try #require(made.body.firstMatch(of: /cf_[0-9a-f]{64}/)).output
            let id = try await bench.number("SELECT id FROM users WHERE api_key = \(String(key)) AND plan = 'pro'")
            let path = "\(Self.users)/\(id)"
            #expect(!(try await visitor.get(path)).body.contains(key))

            let forms: [(fields: KeyValuePairs<String, String>, done: String)] = [
                (
                    [
                        "change": "profile", "name": "Grace", "email": "g@example.com", "plan": "agency",
                        "is_admin": "1",
                    ],
                    "user_changed"
                ),
                (["change": "suspend"], "user_suspended"), (["change": "activate"], "user_activated"),
                (
                    [
                        "change": "limits", "daily_requests": "7", "daily_tokens": "", "daily_budget": "1.5",
                        "monthly_tokens": "0", "models": "gpt-4\r\n claude \r\n",
                    ], "limits_changed"
                ),
            ]
            for (fields, done) in forms {
                let answer = try await visitor.post(path, fields)
                #expect(answer.status == 303 && answer.headers[.location] == "\(path)?done=\(done)", "\(answer)")
            }
            #expect(
                try await bench.text(
                    "SELECT concat_ws(' ', name, email, plan, status, is_admin) FROM users WHERE id = \(id)")
                    == "Grace g@example.com agency active t")
            #expect(
                try await bench.text(
                    """
                    SELECT string_agg(concat_ws(' ', l.period, l.requests, l.tokens, l.budget), ', ' ORDER BY l.period)
                           || ' ' || min(m.models::text)
                    FROM metering.user_limits l JOIN metering.user_models m USING (user_id) WHERE user_id = \(id)
                    """) == "daily 7 1.500000000000, monthly 0 {gpt-4,claude}")
            let renewed = try await visitor.post(path, ["change": "key"])
            let newKey = try #require(renewed.body.firstMatch(of: /cf_[0-9a-f]{64}/)).output
            #expect(renewed.status == 200 && newKey != key)
            #expect(try await bench.text("SELECT api_key FROM users WHERE id = \(id)") == String(newKey))
            for later in [path, Self.users, "/dashboard/operator/audit"] {
                #expect(!(try await visitor.get(later)).body.contains(newKey), "the key is shown once, not on \(later)")
            }
            #expect(
                try await bench.text(
                    "SELECT string_agg(action, ' ' ORDER BY id) FROM metering.audit_log WHERE actor_id = 1")
                    == "user.create user.update user.suspend user.activate user.limits user.key")
            let page = try await visitor.get("\(path)?done=limits_changed", language: "tr")
            #expect(page.body.contains("Limitler kaydedildi.") && page.body.contains("Limitler ayarlandı"))
        }
    }

    private static let refusals: [(path: String, fields: KeyValuePairs<String, String>, status: Int, says: String)] = [
        ("", ["name": "Ada", "email": "nobody", "plan": "pro"], 422, "e-posta adresi girin"),
        ("", ["name": "Typed", "email": "user2@example.com", "plan": "pro"], 409, "başka bir kullanıcıya ait"),
        ("/2", ["change": "profile", "name": "", "email": "a@example.com", "plan": "pro"], 422, "255 karakter"),
        ("/2", ["change": "limits", "daily_requests": "-1"], 422, "tam sayı girin"),
        ("/2", ["change": "other"], 422, "Hiçbir şey değişmedi"),
        ("/1", ["change": "suspend"], 409, "etkin son işletmeci"),
        ("/999", ["change": "suspend"], 404, "Böyle bir sayfa yok"),
    ]

    @Test func aRefusedFormKeepsWhatWasTypedAndChangesNothing() async throws {
        try await withVisitors { bench, visitor in
            for (path, fields, status, says) in Self.refusals {
                let answer = try await visitor.post(Self.users + path, fields, language: "tr")
                #expect(answer.status == status && answer.body.contains(says), "\(fields): \(answer)")
                let typed = fields.first { ["email", "daily_requests"].contains($0.key) }?.value
                #expect(typed.map { answer.body.contains("value=\"\($0)\"") } ?? true, "\(fields)")
            }
            for token in ["", "00", FormKey(secret: "another").token()] {
                let answer = try await visitor.post("\(Self.users)/2", ["change": "suspend"], token: token)
                #expect(answer.status == 419, "\(answer)")
            }
            #expect(try await bench.number("SELECT count(*) FROM metering.audit_log") == 0)
            #expect(try await bench.number("SELECT count(*) FROM users WHERE status = 'active'") == 2)
        }
    }

    @Test func aCustomerSeesNoOperatorPage() async throws {
        try await withVisitors { bench, _ in
            let customer = try await Visitor(bench, 2)
            for path in ["", "/users", "/users/1", "/users/2"] {
                #expect(try await customer.get("/dashboard/operator\(path)").status == 403)
            }
            for path in ["/users", "/users/2"] {
                let answer = try await customer.post("/dashboard/operator\(path)", ["change": "activate"])
                #expect(answer.status == 403, "\(answer)")
            }
            #expect(try await bench.send(.get, "/dashboard/operator").status == 303)
        }
    }

    @Test func theOverviewHasTheFiguresOfTheAPI() async throws {
        try await withVisitors { bench, visitor in
            let empty = try await visitor.get("/dashboard/operator")
            #expect(empty.status == 200 && empty.body.contains("No usage in the last 30 days"))
            try await bench.seedLogs(of: 2)
            try await bench.execute(
                "INSERT INTO metering.user_limits (user_id, period, requests) VALUES (2, 'monthly', 1)")
            let page = try await visitor.get("/dashboard/operator")
            let totals = try #require(try await bench.get("/api/v1/admin/totals", as: visitor.token).json)
            for (period, fields) in [("today", ["cost", "requests"]), ("month", ["cost", "requests", "errors"])] {
                for field in fields {
                    let figure = totals[period]?[field]
                    #expect(try value("\(period)-\(field)", in: page) == figure?.scalarText, "\(period) \(field)")
                }
            }
            let list = try #require(
                try await bench.get("/api/v1/admin/ledger/status", as: visitor.token).json)
            #expect(try value("pending-logs", in: page) == list["rows_behind"]?.scalarText)
            #expect(try value("active-users", in: page) == "1" && value("quarantine-open", in: page) == "0")
            for path in ["", "/users", "/users?search=script", "/users/2"] {
                let page = try await visitor.get("/dashboard/operator\(path)")
                #expect(page.status == 200 && page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩"))
                #expect(!page.body.contains("<script>alert"))
            }
        }
    }

    @Test func aSearchFindsAndSortsTurkishLetters() async throws {
        try await withVisitors { bench, visitor in
            for (id, name) in [(11, "İnci"), (12, "IŞIK"), (13, "ışıl"), (14, "Çağla"), (15, "Zeynep")] {
                try await bench.makeUser(Int64(id), name: name)
            }
            func found(_ query: String) async throws -> [String] {
                let page = try await visitor.get("\(Self.users)?\(query)", language: "tr")
                return page.body.matches(of: /<tr data-id="(\d+)"/).map { String($0.output.1) }
            }
            for (search, ids) in [
                ("inci", ["11"]), ("İNCİ", ["11"]), ("ıNCı", ["11"]), ("işi", ["12", "13"]), ("IŞI", ["12", "13"]),
                ("ÇAĞ", ["14"]), ("çağ", ["14"]),
            ] {
                #expect(try await found("search=\(search.percentEncoded)") == ids, "\(search)")
            }
            let sorted = try await found("sort=name")
            #expect(Set(sorted) == ["1", "2", "11", "12", "13", "14", "15"])
            #expect(try await found("sort=name&order=desc") == sorted.reversed())
        }
    }

    @Test func aListHasPagesThatKeepItsFilters() async throws {
        try await withVisitors { bench, visitor in
            try await bench.execute(
                """
                INSERT INTO users (name, email, password, api_key, plan)
                SELECT 'Many ' || g, 'many' || g || '@example.com', 'x', 'cf_many' || g, 'pro'
                FROM generate_series(100, 160) g
                """)
            let first = try await visitor.get("\(Self.users)?search=many&plan=pro&sort=name&order=desc&status=")
            let next = try #require(first.body.firstMatch(of: /rel="next"\s+href="([^"]+)"/)?.output.1)
            #expect(first.body.contains("Many 160<") && !first.body.contains("Many 110<"))
            let second = try await visitor.get(Self.users + next.replacing("&amp;", with: "&"))
            #expect(second.body.contains("Many 110<") && second.body.contains("Many 100<"))
            #expect(!second.body.contains("Many 111<") && !second.body.contains("rel=\"next\""))
            let none = try await visitor.get("\(Self.users)?search=nobody")
            #expect(none.body.contains("No user matches."))
        }
    }
}
