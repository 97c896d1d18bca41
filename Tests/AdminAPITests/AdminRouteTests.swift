import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The routes that only administrators may use.
@Suite(.timeLimit(.minutes(30))) struct AdminRouteTests {
    /// A database with the administrator 1 and the user 2.
    private func withAdministrator(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.makeUser(2)
            try await body(bench, try await bench.token(of: 1))
        }
    }

    private func json(_ answer: AdminBench.Answer, _ status: Int = 200) throws -> JSON {
        #expect(answer.status == status, "\(answer)")
        return try #require(answer.json)
    }

    @Test func usersAreMadeFoundChangedAndGivenKeys() async throws {
        try await withAdministrator { bench, token in
            let users = "/api/v1/admin/users"
            let made = try json(
                try await bench.send(
                    .post, users, #"{"name":"Grace","email":"grace@example.com","plan":"pro"}"#, as: token), 201)
            let key = try #require(made["api_key"]?.text)
            #expect(key.wholeMatch(of: /cf_[0-9a-f]{64}/) != nil && made["plan"] == "pro")
            let path = "\(users)/\(try #require(made["id"]?.wholeNumber))"

            let found = try json(try await bench.get("\(users)?search=GRACE&plan=pro&limit=1", as: token))
            #expect(found["data"]?.elements?.map { $0["email"] } == ["grace@example.com"])
            let first = try json(try await bench.get("\(users)?sort=name&limit=1", as: token))
            let cursor = try #require(first["next_cursor"]?.text)
            let second = try json(try await bench.get("\(users)?sort=name&limit=2&cursor=\(cursor)", as: token))
            #expect(second["data"]?.elements?.map { $0["name"] } == ["Ada", "Grace"])
            #expect(second["next_cursor"] == .null)

            let changed = try json(try await bench.send(.patch, path, #"{"name":"Grace H."}"#, as: token))
            #expect(changed["name"] == "Grace H." && changed["email"] == "grace@example.com")
            #expect(try json(try await bench.send(.post, "\(path)/suspend", as: token))["status"] == "suspended")
            #expect(try json(try await bench.send(.post, "\(path)/activate", as: token))["status"] == "active")
            let rotated = try json(try await bench.send(.put, "\(path)/key", "{}", as: token))
            #expect(rotated["api_key"] != made["api_key"])

            let details = try json(try await bench.get(path, as: token))
            #expect(details["totals"]?["requests"] == 0 && details["limits"]?["daily"]?["tokens"]?["limit"] == 500_000)
            #expect(details["api_key"] == nil && details["key_prefix"]?.text?.hasPrefix("cf_") == true)

            let log = try json(try await bench.get("/api/v1/admin/audit-log?subject=user", as: token))
            #expect(
                log["data"]?.elements?.compactMap { $0["action"]?.text } == [
                    "user.key", "user.activate", "user.suspend", "user.update", "user.create",
                ])
            #expect(log["data"]?.elements?.allSatisfy { $0["actor_id"] == 1 } == true)
            #expect(!(try await bench.get("/api/v1/admin/audit-log", as: token)).body.contains(key))
        }
    }

    static let refusals: [(method: HTTPRequest.Method, path: String, body: String?, status: Int)] = [
        (.post, "users", #"{"name":"x","email":"user2@example.com"}"#, 409),
        (.post, "users", #"{"name":"x","email":"no address","is_admin":"yes"}"#, 422),
        (.post, "users", "[]", 400),
        (.patch, "users/2", #"{"plan":"free"}"#, 422),
        (.patch, "users/2", #"{"plna":"pro"}"#, 422),
        (.patch, "users/2", "plan=pro", 400),
        (.patch, "users/1", #"{"is_admin":false}"#, 409),
        (.post, "users/1/suspend", nil, 409),
        (.patch, "users/999", #"{"name":"x"}"#, 404),
        (.put, "users/2/key", #"{"api_key":"short"}"#, 422),
        (.put, "users/2/limits", #"{"daily":{"tokens":-1},"models":"all"}"#, 422),
        (.put, "plans/free", #"{"daily":{"tokens":1,"requests":1}}"#, 404),
        (.put, "plans/free", "{}", 404),
        (.put, "plans/pro", #"{"daily":{"tokens":1}}"#, 422),
        (.post, "models", #"{"name":"x","model_id":"y","cost_per_1k_tokens":"10000"}"#, 422),
        (.put, "models/999", #"{"name":"x","model_id":"y","cost_per_1k_tokens":"1"}"#, 404),
        (.post, "limit-requests/999/answer", #"{"granted":true}"#, 404),
        (.get, "users?sort=password", nil, 422),
        (.get, "users?cursor=none", nil, 400),
        (.get, "ledger/verify", nil, 400),
        (.get, "ledger/verify?from=2026-01-01&to=2026-12-01", nil, 400),
        (.get, "quarantine/none", nil, 404),
        (.post, "quarantine/replay", #"{"ids":["none"]}"#, 422),
    ]

    @Test(arguments: refusals.indices)
    func invalidRequestsAreRefusedWithAProblem(refusal: Int) async throws {
        let (method, path, body, status) = Self.refusals[refusal]
        try await withAdministrator { bench, token in
            let answer = try await bench.send(method, "/api/v1/admin/\(path)", body, as: token)
            #expect(answer.status == status, "\(answer)")
            #expect(answer.headers[.contentType] == "application/problem+json")
            #expect(try await bench.number("SELECT count(*) FROM metering.audit_log") == 0)
        }
    }

    @Test func limitsPlansModelsAndLimitRequestsAreChanged() async throws {
        try await withAdministrator { bench, token in
            let admin = "/api/v1/admin"
            let limits = try json(
                try await bench.send(
                    .put, "\(admin)/users/2/limits",
                    #"{"daily":{"tokens":7,"requests":3,"budget":"1.50"},"models":["gpt-4"]}"#, as: token))
            #expect(limits["limits"]?["daily"]?["tokens"]?["limit"] == 7)
            #expect(
                try await bench.text(
                    "SELECT l.budget || ' ' || m.models::text FROM metering.user_limits l, metering.user_models m")
                    == "1.500000000000 {gpt-4}")
            let again = try json(
                try await bench.send(.put, "\(admin)/users/2/limits", #"{"daily":{"tokens":null}}"#, as: token))
            #expect(again["limits"]?["daily"]?["tokens"]?["limit"] == 100_000)
            #expect(again["limits"]?["daily"]?["requests"]?["limit"] == 3)

            let plans = try json(
                try await bench.send(.put, "\(admin)/plans/pro", #"{"daily":{"tokens":9,"requests":8}}"#, as: token))
            #expect(plans["pro"]?["daily"]?["tokens"] == 9 && plans["starter"]?["daily"]?["tokens"] == 100_000)

            let model = try json(
                try await bench.send(
                    .post, "\(admin)/models", #"{"name":"GPT-4","model_id":"gpt-4","cost_per_1k_tokens":"0.03"}"#,
                    as: token), 201)
            let id = try #require(model["id"]?.wholeNumber)
            _ = try json(
                try await bench.send(
                    .put, "\(admin)/models/\(id)",
                    #"{"name":"GPT-4","model_id":"gpt-4","cost_per_1k_tokens":0.06,"availability":false}"#, as: token))
            let models = try json(try await bench.get("\(admin)/models", as: token))
            #expect(models.elements?.map { $0["cost_per_1k_tokens"] } == ["0.060000"])
            let free = try json(
                try await bench.send(.put, "\(admin)/free-models", #"{"model":"local/x","is_free":true}"#, as: token))
            #expect(free["free_models"] == ["local/x"])

            let user = try await bench.token(of: 2)
            _ = try await bench.send(
                .post, "/api/rate-limits/request-increase", #"{"period":"daily","reason":"more"}"#, as: user)
            let open = try json(try await bench.get("\(admin)/limit-requests?open=true", as: token))
            let wish = try #require(open["data"]?.elements?.first?["id"]?.wholeNumber)
            let answer = "\(admin)/limit-requests/\(wish)/answer"
            let answered = try json(try await bench.send(.post, answer, #"{"granted":true,"note":"ok"}"#, as: token))
            #expect(answered["answer"] == "granted" && answered["note"] == "ok")
            #expect(try await bench.send(.post, answer, #"{"granted":false}"#, as: token).status == 409)
            #expect(try json(try await bench.get("\(admin)/limit-requests?open=true", as: token))["data"] == [])
            let me = try json(try await bench.get("/api/v1/me", as: user))
            #expect(me["limit_requests"]?.elements?.first?["answer"] == "granted")
        }
    }

    @Test func totalsRollupsAndQuarantineAreReported() async throws {
        try await withAdministrator { bench, token in
            let admin = "/api/v1/admin"
            try await bench.seedLogs(of: 2, count: 30)
            let totals = try json(try await bench.get("\(admin)/totals", as: token))
            #expect(totals["users"]?.elements?.compactMap { $0["count"]?.wholeNumber }.reduce(0, +) == 2)
            #expect(totals["today"]?["requests"] == 1)
            let status = try json(try await bench.get("\(admin)/ledger/status", as: token))
            #expect(status["rows_behind"] == 30)
            let proof = try json(
                try await bench.get("\(admin)/ledger/verify?from=2026-11-01&to=2026-12-01", as: token))
            #expect(proof["differences"] == 0)

            let now = bench.clock.now
            let event = UsageEvent.sample(1, by: .hash(of: "cf_nobody"), at: now)
            _ = try await EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
                .write([IngestItem(.success(event))], lockedUsers: .quarantine)
            let list = try json(try await bench.get("\(admin)/quarantine?reason=unknown_key", as: token))
            let id = try #require(list["data"]?.elements?.first?["id"]?.text)
            #expect(try json(try await bench.get("\(admin)/quarantine/\(id)", as: token))["reason"] == "unknown_key")
            let ids = #"{"ids":["\#(id)"]}"#
            let early = try json(try await bench.send(.post, "\(admin)/quarantine/replay", ids, as: token))
            #expect(early["results"]?.elements?.first?["outcome"] == "unknown_key")
            try await bench.execute("UPDATE users SET api_key = 'cf_nobody' WHERE id = 2")
            let late = try json(try await bench.send(.post, "\(admin)/quarantine/replay", ids, as: token))
            #expect(late["results"]?.elements?.first?["outcome"] == "stored")
            #expect(
                try json(try await bench.send(.post, "\(admin)/quarantine/discard", ids, as: token))["discarded"] == 0)
            let log = try json(try await bench.get("\(admin)/audit-log?subject=quarantine&subject_id=\(id)", as: token))
            // The discard found nothing open and changed nothing.
            #expect(log["data"]?.elements?.count == 2)
        }
    }

    @Test func missingEventsOfSpoolsAreListedWithTheirAge() async throws {
        try await withAdministrator { bench, token in
            let path = "/api/v1/admin/ledger/spools"
            #expect(try json(try await bench.get(path, as: token))["data"] == [])
            let start = bench.clock.now
            let spools = (1...3).map { "0000000\($0)-0000-4000-8000-000000000000" }
            try await bench.database.pool(as: .webhook).withConnection { connection in
                for (spool, firsts) in zip(spools, [[1, 11], [1, 31, 71], [5]]) {
                    for first in firsts {
                        let part = try #require(SpoolPart(spool: spool, first: Int64(first), count: 10, lost: 2))
                        _ = try Spools.record(part, connection, now: start)
                    }
                }
            }
            bench.clock.advance(by: .seconds(90))
            let first = try json(try await bench.get("\(path)?limit=2", as: token))
            let whole = try #require(first["data"]?.elements?.first)
            #expect(whole["spool"]?.text == spools[0] && whole["highest"] == 20 && whole["lost"] == 2)
            #expect(whole["missing"] == 0 && whole["missing_since"] == .null && whole["ranges"] == [])
            let cut = try #require(first["data"]?.elements?.last)
            #expect(cut["missing"] == 50 && cut["missing_ranges"] == 2 && cut["missing_seconds"] == 90)
            #expect(cut["ranges"] == [["first": 11, "last": 30], ["first": 41, "last": 70]])
            #expect(cut["missing_since"]?.text == start.rfc3339)
            let cursor = try #require(first["next_cursor"]?.text)
            let last = try json(try await bench.get("\(path)?limit=2&cursor=\(cursor)", as: token))
            #expect(last["data"]?.elements?.map { $0["spool"]?.text } == [spools[2]] && last["next_cursor"] == .null)
            let missing = try json(try await bench.get("\(path)?missing=true", as: token))
            #expect(missing["data"]?.elements?.compactMap { $0["missing"]?.wholeNumber } == [50, 4])
            #expect(try await bench.get("\(path)?cursor=\(Cursor.encode(["x"]))", as: token).status == 400)
        }
    }

    @Test func usersAreRefused() async throws {
        try await withAdministrator { bench, _ in
            let token = try await bench.token(of: 2)
            let routes = bench.routes.filter { $0.access == .admin }
            #expect(routes.count > 25 && routes.allSatisfy { $0.path.hasPrefix("/api/v1/admin/") })
            for route in routes {
                let path = route.path.replacing(/{[a-z]+}/, with: "2")
                let answer = try await bench.send(route.method, path, route.method == .get ? nil : "{}", as: token)
                #expect(answer.status == 403, "\(path): \(answer)")
            }
        }
    }
}
