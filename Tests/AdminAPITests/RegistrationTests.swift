import AsyncHTTPClient
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import NIOCore
import NIOHTTP1
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Who may make an account, and what it may spend.
@Suite(.timeLimit(.minutes(30))) struct RegistrationTests {
    private static let body =
        #"{"name":"Eve","email":"eve@example.com","password":"password1","password_confirmation":"password1"}"#

    /// What `authorize` and Laravel's `rate_limits` say of the key of a user.
    private func authorization(_ bench: AdminBench, of user: Int64) async throws -> CallAuthorization? {
        let now = bench.clock.now
        let key = try #require(try await bench.text("SELECT api_key FROM users WHERE id = \(user)"))
        return try await bench.database.pool(as: .webhook).withConnection { connection in
            try RateLimitProjection.project(connection, .users([user]), now: now)
            return try CallAuthorization.find(KeyHash(of: key), connection, now: now)
        }
    }

    private func limits(_ bench: AdminBench, of user: Int64) async throws -> String? {
        try await bench.text(
            """
            SELECT string_agg(concat_ws(' ', period, limit_tokens, limit_requests), ', ' ORDER BY period)
            FROM rate_limits WHERE user_id = \(user)
            """)
    }

    @Test(arguments: ["", "{}", "not json", body])
    func aSwitchedOffRegistrationIsRefusedUnread(sent: String) async throws {
        try await AdminBench.with { bench in
            let answer = try await bench.send(.post, "/api/auth/register", sent)
            #expect(answer.status == 403)
            #expect(answer.json?.members?.map(\.key) == ["message"])
            #expect(answer.body.contains("Registration is switched off."))
            #expect(answer.body.contains("ADMIN_REGISTRATION"))
            #expect(try await bench.number("SELECT count(*) FROM users") == 0)
        }
    }

    @Test func anOpenRegistrationHasThePlansLimitsAtOnce() async throws {
        try await AdminBench.with(["ADMIN_REGISTRATION": "open", "BCRYPT_ROUNDS": "4"]) { bench in
            let answer = try await bench.send(.post, "/api/auth/register", Self.body)
            let user = try #require(answer.json?["user"]?["id"]?.wholeNumber)
            #expect(try await authorization(bench, of: user)?.refusal == nil)
            #expect(try await limits(bench, of: user) == "daily 100000 1000, monthly 1000000 10000")
            #expect(try await bench.text("SELECT left(password, 7) FROM users") == "$2y$04$")
        }
    }

    @Test func anUnverifiedAccountMaySpendNothing() async throws {
        try await AdminBench.with(["ADMIN_REGISTRATION": "verified"]) { bench in
            // Accounts that Laravel made have no verified address either. The rule is not about them.
            let laravels = try await bench.makeUser(900)
            let answer = try await bench.send(.post, "/api/auth/register", Self.body)
            #expect(answer.status == 201, "\(answer)")
            let user = try #require(answer.json?["user"]?["id"]?.wholeNumber)
            let token = try #require(answer.json?["token"]?.text)
            for _ in 0..<2 {
                let found = try #require(try await authorization(bench, of: user))
                #expect(found.refusal == .unverified && found.isUnverified)
                #expect(found.windows.map(\.requests.limit) == [0, 0] && found.windows.map(\.tokens.limit) == [0, 0])
                #expect(found.windows.map(\.cost.limit) == [.zero, .zero])
                #expect(try await limits(bench, of: user) == "daily 0 0, monthly 0 0")
                // Limits of their own, or none, do not change that.
                try await bench.execute(
                    "INSERT INTO metering.user_limits VALUES (\(user), 'daily', 5, 5, 5) ON CONFLICT DO NOTHING")
                try await bench.execute("DELETE FROM metering.plan_limits WHERE period = 'monthly'")
            }
            let shown = try await bench.get("/api/rate-limits", as: token)
            #expect(shown.json?["daily"]?["limit"] == 0 && shown.json?["monthly"]?["limit_requests"] == 0, "\(shown)")
            try await bench.execute("UPDATE users SET api_key = 'cf_laravels' WHERE id = \(laravels)")
            try await bench.database.pool(as: .webhook).withConnection {
                try KeyHistory.sync($0, now: AdminBench.start)
            }
            #expect(try await authorization(bench, of: laravels)?.refusal == nil)

            // Laravel's link verifies the address, and a change of the address undoes it.
            try await bench.execute("UPDATE users SET email_verified_at = now() WHERE id = \(user)")
            #expect(try await authorization(bench, of: user)?.refusal == nil)
            #expect(try await limits(bench, of: user) == "daily 5 5, monthly 0 0")
            try await bench.execute("UPDATE users SET email_verified_at = NULL WHERE id = \(user)")
            #expect(try await authorization(bench, of: user)?.refusal == .unverified)
        }
    }

    @Test func anAccountOfAnOperatorSpendsAtOnce() async throws {
        try await AdminBench.with(["ADMIN_REGISTRATION": "verified"]) { bench in
            try await bench.makeUser(1, isAdmin: true)
            let made = try await bench.send(
                .post, "/api/v1/admin/users", #"{"name":"Ada","email":"ada@example.com"}"#,
                as: try await bench.token(of: 1))
            let user = try #require(made.json?["id"]?.wholeNumber)
            #expect(try await authorization(bench, of: user)?.refusal == nil)
        }
    }

    @Test func askingWhetherAnEmailIsTakenCountsAsARegistration() async throws {
        try await AdminBench.with(["ADMIN_REGISTRATION": "open"]) { bench in
            try await bench.makeUser(1, email: "eve@example.com")
            var taken: [Duration] = []
            var free: [Duration] = []
            for round in 0..<3 {
                let start = ContinuousClock.now
                let fresh = Self.body.replacing("eve@", with: "eve\(round)@")
                let made = try await bench.send(.post, "/api/auth/register", fresh)
                let middle = ContinuousClock.now
                let refused = try await bench.send(.post, "/api/auth/register", Self.body)
                free.append(middle - start)
                taken.append(ContinuousClock.now - middle)
                #expect(made.status == 201 && refused.status == 422)
                #expect(refused.json?["errors"]?["email"] == ["The email has already been taken."])
            }
            #expect(taken.sorted()[1] > free.sorted()[1] * 0.5, "\(taken) \(free)")
            // With another error in the request, the answer does not say whether the email is taken.
            let wrong = Self.body.replacing(
                "\"password_confirmation\":\"password1\"", with: "\"password_confirmation\":\"x\"")
            let silent = try await bench.send(.post, "/api/auth/register", wrong)
            #expect(silent.json?["errors"]?.members?.map(\.key) == ["password"])
        }
    }

    @Test func changesOfAnEmailAreLimited() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            let token = try await bench.token(of: 1)
            var statuses: [Int] = []
            for index in 0..<20 {
                let email = index == 0 ? "user2@example.com" : "other\(index)@example.com"
                statuses.append(
                    try await bench.send(.post, "/api/settings/update", #"{"email":"\#(email)"}"#, as: token).status)
            }
            #expect(statuses == [422] + Array(repeating: 200, count: 9) + Array(repeating: 429, count: 10))
            #expect(try await bench.send(.post, "/api/settings/update", #"{"name":"Grace"}"#, as: token).status == 200)
        }
    }
}

/// Floods of anonymous requests against the running program. Clients from other addresses do not notice.
@Suite(.serialized, .timeLimit(.minutes(30))) struct FloodTests {
    /// Posts as a proxy does for a client of `address`.
    private func post(
        _ admin: LiveAdmin, _ path: String, _ body: String, from address: String
    ) async throws -> (status: Int, body: String) {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(admin.port)\(path)")
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.headers.add(name: "X-Forwarded-For", value: address)
        request.body = .bytes(ByteBuffer(string: body))
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        return (Int(response.status.code), String(buffer: try await response.body.collect(upTo: 1 << 20)))
    }

    private func register(_ email: String) -> String {
        #"{"name":"x","email":"\#(email)","password":"password1","password_confirmation":"password1"}"#
    }

    /// The most memory that the process ever held, in bytes.
    private func peakMemory(_ admin: LiveAdmin) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(admin.process.processID)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? .max) << 10
    }

    private static let settings = [
        "ADMIN_TRUSTED_PROXIES": "127.0.0.1", "ADMIN_REGISTRATION": "verified", "ADMIN_LOGIN_RATE": "20",
        "BCRYPT_ROUNDS": "8",
    ]

    @Test func aFloodOfLoginsStarvesNobodyAndProbesEnd() async throws {
        let hash = try #require(try? Password.hash("password1", cost: 8))
        try await LiveAdmin.with(Self.settings, seed: "UPDATE users SET password = \(hash)") { admin in
            let statuses = try await withThrowingTaskGroup(of: (isReal: Bool, status: Int).self) { group in
                for index in 0..<200 {
                    group.addTask {
                        let bogus = #"{"email":"bogus\#(index)@example.com","password":"x"}"#
                        return (false, try await post(admin, "/api/auth/login", bogus, from: "192.0.2.66").status)
                    }
                }
                for index in 0..<10 {
                    group.addTask {
                        let real = #"{"email":"user\#(1 + index % 2)@example.com","password":"password1"}"#
                        return (true, try await post(admin, "/api/auth/login", real, from: "192.0.2.\(index)").status)
                    }
                }
                return try await group.reduce(into: [(isReal: Bool, status: Int)]()) { $0.append($1) }
            }
            #expect(statuses.filter(\.isReal).map(\.status) == Array(repeating: 200, count: 10))
            let bogus = statuses.filter { !$0.isReal }.map(\.status)
            #expect(bogus.count { $0 == 429 } >= 170 && bogus.allSatisfy { [422, 429, 503].contains($0) })
            // The same address gets no further answers about any account, by either route, for a while.
            for (path, body) in [
                ("/api/auth/register", register("user1@example.com")),
                ("/api/auth/login", #"{"email":"user1@example.com","password":"password1"}"#),
            ] {
                let answer = try await post(admin, path, body, from: "192.0.2.66")
                #expect(answer.status == 429, "\(answer)")
                #expect(answer.body.contains("Please try again in"))
            }
        }
    }

    @Test func stalledBodiesOfOneAddressHoldUpNobody() async throws {
        try await LiveAdmin.with(Self.settings, seed: "SELECT 1") { admin in
            try await withStalledBodies(60, of: 1 << 20, arriving: 300 << 10, on: admin.port) {
                let start = ContinuousClock.now
                let answer = try await post(
                    admin, "/api/auth/login", #"{"email":"user1@example.com","password":"x"}"#, from: "198.51.100.1")
                #expect(answer.status == 422, "\(answer)")
                #expect(ContinuousClock.now - start < .seconds(4))
            }
        }
    }

    @Test func anEmailOfAMegabyteIsRefusedByItsLength() async throws {
        try await LiveAdmin.with(Self.settings, seed: "SELECT 1") { admin in
            _ = try await post(admin, "/api/auth/login", #"{"email":"a@b.example","password":"x"}"#, from: "192.0.2.1")
            let before = try peakMemory(admin)
            for text in ["a", "a.", "=", "é"] {
                let local = String(repeating: text, count: 900_000 / text.utf8.count)
                for email in ["\(local)@example.com", "\\\"\(local)\\\"@example.com", "a@\(local)", local] {
                    let answer = try await post(admin, "/api/auth/register", register(email), from: "192.0.2.1")
                    #expect(answer.status == 422)
                    let message = "The email field must not be greater than 255 characters."
                    #expect(answer.body == #"{"message":"\#(message)","errors":{"email":["\#(message)"]}}"#)
                }
            }
            #expect(try peakMemory(admin) - before < 24 << 20)
        }
    }
}
