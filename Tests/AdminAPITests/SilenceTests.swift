import AsyncHTTPClient
import Domain
import Foundation
import NIOCore
import NIOHTTP1
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

/// PostgreSQL, Laravel or an operator may hide rows from the program. It never takes a hidden row for a missing one.
@Suite(.timeLimit(.minutes(30))) struct SilenceTests {
    private struct Answer: Sendable {
        let status: Int
        let body: String
        let retryAfter: String?
    }

    private static let password = "correct horse battery"
    private static let hash = "$2y$12$77rW18Zl19B9KvzPZ1xjmOGrwQ5kPw3jyMDN39lE1IypyOTo.nTWO"

    private func with(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (LiveAdmin) async throws -> Void
    ) async throws {
        try await LiveAdmin.with(environment, seed: "UPDATE users SET password = \(Self.hash)", body)
    }

    private func ask(
        _ admin: LiveAdmin, _ method: HTTPMethod, _ path: String, token: String? = nil, cookie: String? = nil,
        json: String? = nil
    ) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(admin.port)\(path)")
        request.method = method
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        if let cookie { request.headers.add(name: "Cookie", value: cookie) }
        if let json {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(string: json))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        return Answer(
            status: Int(response.status.code), body: String(buffer: try await response.body.collect(upTo: 1 << 20)),
            retryAfter: response.headers.first(name: "Retry-After"))
    }

    private func logIn(_ admin: LiveAdmin, _ user: String) async throws -> Answer {
        try await ask(
            admin, .POST, "/api/auth/login", json: #"{"email":"\#(user)@example.com","password":"\#(Self.password)"}"#)
    }

    private func becomesReady(_ admin: LiveAdmin, _ status: Int) async throws -> String? {
        let end = ContinuousClock.now + .seconds(5)
        while ContinuousClock.now < end {
            let answer = try await ask(admin, .GET, "/health/ready")
            if answer.status == status { return answer.body }
        }
        return nil
    }

    @Test(arguments: ["timestamp(0)", "timestamptz"])
    func aSoftDeletedUserIsRefusedLikeAMissingOne(type: String) async throws {
        try await with(["ADMIN_REGISTRATION": "open"]) { admin in
            let token = try await admin.token(of: 1)
            let others = try await admin.token(of: 2)
            let cookie = try admin.cookieField
            let administrator = try await admin.token(of: LiveAdmin.administrator)
            try await admin.database.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      status, created_at)
                VALUES (1, 'gpt-4', 7, 1, 0.5, 1, 'success', now())
                """)
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
            #expect(try await logIn(admin, "user1").status == 200)
            // Laravel's next migration adds the column. Nobody restarts a program or grants a right.
            try await admin.database.execute(Query(unsafeSQL: "ALTER TABLE users ADD deleted_at \(type)"))
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
            #expect(try await ask(admin, .GET, "/api/v1/me", cookie: cookie).status == 200)
            try await admin.database.execute("UPDATE users SET deleted_at = now() WHERE id = 1")

            let bearer = try await ask(admin, .GET, "/api/v1/me", token: token)
            let invalid = try await ask(admin, .GET, "/api/v1/me", token: "1|nobody")
            #expect(bearer.status == 401 && invalid.status == 401)
            #expect(try await ask(admin, .GET, "/api/auth/me", token: token).status == 401)
            #expect(try await ask(admin, .GET, "/api/v1/me", cookie: cookie).status == 401)
            let login = try await logIn(admin, "user1")
            let unknown = try await logIn(admin, "nobody")
            #expect(login.status == unknown.status && login.body == unknown.body, "\(login) \(unknown)")
            #expect(try await ask(admin, .GET, "/api/v1/me", token: others).status == 200)
            func reportUsage(of user: Int) async throws -> Answer {
                try await ask(
                    admin, .POST, "/api/usage/log", token: administrator,
                    json: #"{"user_id":\#(user),"model":"m","input_tokens":1,"output_tokens":1,"total_cost":0.1,"#
                        + #""response_time_ms":1,"status":"success"}"#)
            }
            let ofDeleted = try await reportUsage(of: 1)
            let ofMissing = try await reportUsage(of: 99)
            #expect(ofDeleted.status == 422 && ofDeleted.body == ofMissing.body, "\(ofDeleted) \(ofMissing)")

            // The address stays taken, as the row is there.
            let again = try await ask(
                admin, .POST, "/api/auth/register",
                json: #"{"name":"Ada","email":"user1@example.com","password":"12345678","#
                    + #""password_confirmation":"12345678"}"#)
            #expect(again.status == 422 && again.body.contains("The email has already been taken."), "\(again)")

            // An administrator sees whose usage it is, and changes nothing of theirs.
            let users = "/api/v1/admin/users"
            let shown = try await ask(admin, .GET, "\(users)/1", token: administrator)
            #expect(shown.status == 200 && shown.body.contains(#""is_deleted":true"#), "\(shown)")
            #expect(shown.body.contains(#""requests":1"#), "\(shown)")
            let deleted = try await ask(admin, .GET, "\(users)?is_deleted=true", token: administrator)
            #expect(deleted.body.contains(#""id":1,"#) && !deleted.body.contains(#""id":2,"#), "\(deleted)")
            let present = try await ask(admin, .GET, "\(users)?is_deleted=false", token: administrator)
            #expect(!present.body.contains(#""id":1,"#) && present.body.contains(#""id":2,"#), "\(present)")
            let all = try await ask(admin, .GET, users, token: administrator)
            #expect(all.body.contains(#""is_deleted":true"#) && all.body.contains(#""is_deleted":false"#), "\(all)")
            let changes: [(HTTPMethod, String, String?)] = [
                (.PATCH, "", #"{"name":"Eve"}"#), (.POST, "/suspend", nil), (.POST, "/activate", nil),
                (.PUT, "/key", "{}"),
                (.PUT, "/limits", #"{"daily":{"requests":1}}"#),
            ]
            for (method, path, json) in changes {
                let answer = try await ask(admin, method, "\(users)/1\(path)", token: administrator, json: json)
                #expect(answer.status == 404, "\(path) \(answer)")
            }
            #expect(
                try await admin.database.text(
                    "SELECT string_agg(name || status || api_key, '') FROM users WHERE id = 1")
                    == "User 1activecf_key_of_1")
            let overview = try await ask(admin, .GET, "/api/v1/admin/totals", token: administrator)
            #expect(overview.body.contains(#""status":"deleted""#), "\(overview)")
            #expect(try await becomesReady(admin, 200)?.contains("users has soft deletes") == true)

            // The last administrator who is not deleted stays one.
            try await admin.database.execute("UPDATE users SET is_admin = true, deleted_at = now() WHERE id = 2")
            let last = try await ask(
                admin, .PATCH, "\(users)/\(LiveAdmin.administrator)", token: administrator, json: #"{"is_admin":false}"#
            )
            #expect(last.status == 409, "\(last)")

            try await admin.database.execute("UPDATE users SET deleted_at = NULL")
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
            try await admin.database.execute("UPDATE users SET deleted_at = now() WHERE id = 1")
            try await admin.database.execute("ALTER TABLE users DROP deleted_at")
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
        }
    }

    /// Where the owner of our schema may read single columns of `users`, as an older `codexflow grants` gave them.
    @Test func deletionsThatMayNotBeReadRefuseAndSayWhy() async throws {
        try await with { admin in
            let token = try await admin.token(of: 1)
            try await admin.database.pool.withConnection {
                try $0.executeScript(
                    "REVOKE ALL ON users FROM codexflow_owner; GRANT SELECT (id, api_key) ON users TO codexflow_owner")
            }
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
            try await admin.database.execute("ALTER TABLE users ADD deleted_at timestamp")
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status >= 500)
            let ready = try await becomesReady(admin, 503)
            #expect(ready?.contains("users has soft deletes, which this installation may not read") == true)
            let found = try await admin.database.pool(as: .admin).withConnection {
                try LaravelDiagnosis.findings($0, for: .admin)
            }
            let remedy = try #require(found.first { $0.effect == .blinding }?.remedy)
            let statement = String(remedy.prefix { $0 != ";" })
            try await admin.database.pool.withConnection { try $0.executeScript(statement) }
            #expect(try await ask(admin, .GET, "/api/v1/me", token: token).status == 200)
        }
    }

    @Test(arguments: ["users", "personal_access_tokens", "api_logs", "sessions", "metering.rollup_15m", "models"])
    func rowLevelSecurityIsAnAnswerOf503(table: String) async throws {
        try await with { admin in
            let token = try await admin.token(of: 1)
            let administrator = try await admin.token(of: LiveAdmin.administrator)
            try await admin.database.execute(Query(unsafeSQL: "ALTER TABLE \(table) ENABLE ROW LEVEL SECURITY"))
            let paths = [
                "users": "/api/v1/me", "personal_access_tokens": "/api/v1/me", "api_logs": "/api/v1/logs",
                "metering.rollup_15m": "/api/v1/analytics/summary?from=2026-11-01&to=2026-12-01",
                "models": "/api/models",
            ]
            if let path = paths[table] {
                let answer = try await ask(admin, .GET, path, token: token)
                #expect(answer.status == 503, "\(answer)")
                #expect(answer.body.contains("Row-level security") && answer.retryAfter != nil, "\(answer)")
            }
            if table == "users" {
                #expect(try await logIn(admin, "user1").status == 503)
                let listed = try await ask(admin, .GET, "/api/v1/admin/users", token: administrator)
                #expect(listed.status == 503)
            }
            let cookie = try admin.cookieField
            let session = try await ask(admin, .GET, "/api/v1/me", cookie: cookie)
            // It says which models are favorites.
            #expect(session.status == (["users", "sessions", "models"].contains(table) ? 503 : 200), "\(session)")
            #expect(try await becomesReady(admin, 503)?.contains("hides rows of \(table)") == true)
            try await admin.database.execute(Query(unsafeSQL: "ALTER TABLE \(table) DISABLE ROW LEVEL SECURITY"))
            let me = try await ask(admin, .GET, "/api/v1/me", token: token)
            #expect(me.status == 200, "\(me)")
            #expect(try await becomesReady(admin, 200)?.contains("Row-level") == false)
        }
    }

    @Test(arguments: [DatabaseRole.admin, nil])
    func settingsOfTheRoleOrTheDatabaseChangeNoAnswer(role: DatabaseRole?) async throws {
        let paths = [
            "/api/v1/me", "/api/dashboard/stats", "/api/dashboard/usage", "/api/usage/analytics", "/api/rate-limits",
            "/api/usage/logs?per_page=3", "/api/v1/logs?limit=3", "/api/models",
            "/api/v1/analytics/summary?from=2026-11-01&to=2026-12-01&timezone=Asia/Kolkata",
            "/api/v1/analytics/timeseries?from=2026-11-01&to=2026-12-01&granularity=day",
        ]
        try await withTestDatabase { database in
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password, api_key, is_admin, created_at, updated_at)
                VALUES (1, 'it''s \\ Ada', 'ada@example.com', 'x', 'cf_ada', true, '2026-11-02 03:04:05', NULL)
                """)
            try await database.execute("SELECT setval('users_id_seq', 1)")
            try await database.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      error_message, created_at)
                SELECT 1, 'model ' || g % 3, g, 1, g * 0.000001, g, 'success', NULLIF('null', 'x'),
                       '2026-11-01 22:13:14'::timestamp + g * interval '7 hours'
                FROM generate_series(1, 60) g
                """)
            try await database.execute("SELECT setval('api_logs_id_seq', 60)")
            let token = try await database.pool(as: .admin).withConnection {
                try AccessToken.create(for: 1, $0, now: .now)
            }
            let url = database.url(as: .admin)
            @Sendable func answers() async throws -> [String] {
                let process = try ServiceProcess.start(
                    product: "admin-api", environment: ["DATABASE_URL": url, "ADMIN_PORT": "0"])
                let port: Int
                do {
                    port = try await process.waitUntilListening()
                } catch {
                    process.kill()
                    throw error
                }
                var answers: [String] = []
                for path in paths + ["/health/ready"] {
                    var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
                    request.headers.add(name: "Authorization", value: "Bearer \(token)")
                    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
                    let body = String(buffer: try await response.body.collect(upTo: 1 << 20))
                    // The moment of an answer is its own.
                    let stable = body.replacing(/"(as_of|complete_through)":"[^"]*"/, with: "").replacing(
                        "\(port)", with: "")
                    answers.append("\(path) \(response.status.code) \(stable)")
                }
                process.terminate()
                try await process.waitForExit()
                return answers
            }
            let before = try await answers()
            #expect(before.allSatisfy { $0.contains(" 200 ") }, "\(before)")
            try await database.setBadly(role)
            let after = try await answers()
            for (good, bad) in zip(before, after) { #expect(good == bad) }
            #expect(before.count == after.count)
        }
    }
}
