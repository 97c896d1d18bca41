import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Values that Laravel's and our columns cannot have unless somebody changed them: every route answers, a filter finds
/// what the answer shows, and a range that ends before it begins is refused.
@Suite(.timeLimit(.minutes(30))) struct MissingValueTests {
    /// A database with the administrator 1 and the user 2, whose columns are NULL.
    private func withMissingValues(
        _ body: @escaping @Sendable (AdminBench, (admin: String, user: String)) async throws -> Void
    ) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.makeUser(2)
            try await bench.execute(
                """
                ALTER TABLE users ALTER name DROP NOT NULL, ALTER email DROP NOT NULL, ALTER password DROP NOT NULL,
                                  ALTER plan DROP NOT NULL, ALTER is_admin DROP NOT NULL
                """)
            try await bench.execute("UPDATE users SET name = NULL, plan = NULL, is_admin = NULL WHERE id = 2")
            try await body(bench, (try await bench.token(of: 1), try await bench.token(of: 2)))
        }
    }

    @Test func usersWithoutNamePlanAndRoleAreShown() async throws {
        try await withMissingValues { bench, token in
            for path in bench.routes.filter({ $0.method == .get }).map(\.path) {
                for asking in [token.admin, token.user] {
                    let answer = try await bench.get(path.replacing("{id}", with: "2"), as: asking)
                    #expect(answer.status < 500, "\(path): \(answer)")
                }
            }
            let user = try await bench.get("/api/v1/admin/users/2", as: token.admin).json
            #expect(user?["name"] == "" && user?["plan"] == "" && user?["is_admin"] == false)
            #expect(try await bench.get("/api/v1/admin/users", as: token.user).status == 403)
            let changed = try await bench.send(.patch, "/api/v1/admin/users/2", #"{"name":"Grace"}"#, as: token.admin)
            #expect(changed.json?["name"] == "Grace" && changed.json?["plan"] == "")
        }
    }

    @Test(arguments: UserDirectory.Sort.allCases)
    func usersWithoutNamePlanAndRoleAreOnOnePage(_ sort: UserDirectory.Sort) async throws {
        try await withMissingValues { bench, token in
            try await bench.execute("UPDATE users SET email = NULL WHERE id = 2")
            let questions: [(String, [Int64])] = [("", [1, 2]), ("&is_admin=false", [2]), ("&is_admin=true", [1])]
            for (question, expected) in questions {
                var (found, cursor): ([Int64], String?) = ([], "")
                while let place = cursor {
                    let path = "/api/v1/admin/users?sort=\(sort.rawValue)&limit=1\(question)\(place)"
                    let page = try await bench.get(path, as: token.admin)
                    try #require(page.status == 200, "\(path): \(page)")
                    found += (page.json?["data"]?.elements ?? []).compactMap { $0["id"]?.wholeNumber }
                    cursor = page.json?["next_cursor"]?.text.map { "&cursor=\($0)" }
                }
                #expect(found.sorted() == expected, "\(question)")
            }
        }
    }

    @Test func aUserWithoutAPasswordCannotLogIn() async throws {
        try await withMissingValues { bench, _ in
            try await bench.execute("UPDATE users SET password = NULL WHERE id = 2")
            let answer = try await bench.send(
                .post, "/api/auth/login", #"{"email":"user2@example.com","password":"password1"}"#)
            #expect(answer.status == 401 || answer.status == 422, "\(answer)")
        }
    }

    @Test func anEventOfAUserWithoutAPlanIsStored() async throws {
        try await withMissingValues { bench, token in
            let now = bench.clock.now
            let writer = EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
            let event = UsageEvent.sample(1, by: .user(2), at: now)
            let verdicts = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
            guard case .stored? = verdicts[0] else {
                Issue.record("\(verdicts)")
                return
            }
            let answer = try await bench.get("/api/v1/analytics/breakdown?group_by=plan", as: token.admin)
            #expect(answer.json?["data"]?.elements?.first?["key"] == "", "\(answer)")
        }
    }

    @Test func aLimitRequestWithoutATimeIsShown() async throws {
        try await withMissingValues { bench, token in
            try await bench.execute(
                """
                INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
                VALUES (2, 'daily', 'more', 'infinity'), (2, 'monthly', 'more', '-infinity')
                """)
            let answer = try await bench.get("/api/v1/admin/limit-requests", as: token.admin)
            let requests = answer.json?["data"]?.elements ?? []
            #expect(requests.map { $0["requested_at"] } == [.null, .null], "\(answer)")
        }
    }

    @Test func aLogWithoutAStatusIsFoundAsASuccess() async throws {
        try await withMissingValues { bench, token in
            try await bench.execute("ALTER TABLE api_logs ALTER status DROP NOT NULL")
            try await bench.seedLogs(of: 2, count: 12)
            try await bench.execute("UPDATE api_logs SET status = NULL WHERE id = (SELECT min(id) FROM api_logs)")
            let expected: [String: Int64] = ["success": 6, "error": 3, "rate_limited": 3]
            for (status, count) in expected {
                let page = try await bench.get("/api/usage/logs?status=\(status)", as: token.user)
                #expect(page.json?["total"]?.wholeNumber == count, "\(status): \(page)")
                for asking in [token.user, token.admin] {
                    let list = try await bench.get("/api/v1/logs?status=\(status)", as: asking)
                    let shown = (list.json?["data"]?.elements ?? []).compactMap { $0["status"]?.text }
                    #expect(shown == Array(repeating: status, count: Int(count)), "\(list)")
                }
            }
            let list = try await bench.get("/api/v1/logs?status=success&status=error", as: token.user)
            #expect(list.json?["data"]?.elements?.count == 9, "\(list)")
        }
    }

    @Test func theFactsOfALogAreFoundAsTheyAreShown() async throws {
        try await withMissingValues { bench, token in
            try await bench.execute(
                "ALTER TABLE api_logs ALTER status DROP NOT NULL, ALTER input_tokens TYPE numeric")
            let now = bench.clock.now
            let writer = EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
            let event = UsageEvent.sample(1, by: .user(2), at: now)
            _ = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
            try await bench.execute("UPDATE api_logs SET status = NULL, response_time_ms = 0")
            let shown = try await bench.get("/api/v1/logs", as: token.user).json?["data"]?.elements?.first
            let provider = try #require(shown?["provider"]?.text)
            for filter in ["provider=\(provider)", "min_duration=0"] {
                let found = try await bench.get("/api/v1/logs?\(filter)", as: token.user)
                #expect(found.json?["data"]?.elements?.count == 1, "\(filter): \(found)")
            }
            try await bench.execute("UPDATE api_logs SET input_tokens = 1e30")
            let absurd = try await bench.get("/api/v1/logs?provider=\(provider)", as: token.user)
            #expect(absurd.status == 200 && absurd.json?["data"]?.elements == [], "\(absurd)")
        }
    }

    @Test func aRangeThatEndsBeforeItBeginsIsRefused() async throws {
        try await withMissingValues { bench, token in
            let (backwards, empty) = ("from=2026-11-24&to=2026-11-01", "from=2026-11-01&to=2026-11-01")
            for path in ["logs", "admin/audit-log", "admin/quarantine", "analytics/summary"] {
                for accept in path == "logs" ? ["application/json", "text/csv"] : ["application/json"] {
                    let answer = try await bench.send(
                        .get, "/api/v1/\(path)?\(backwards)", as: token.admin, headers: [.accept: accept])
                    #expect(answer.status == 400, "\(path): \(answer)")
                }
            }
            let nothing = try await bench.get("/api/v1/logs?\(empty)", as: token.admin)
            #expect(nothing.status == 200 && nothing.json?["data"]?.elements == [], "\(nothing)")
        }
    }
}
