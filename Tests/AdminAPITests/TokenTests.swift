import Crypto
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Sanctum's tokens, made by either side and valid on both (`docs/laravel.md`).
@Suite(.timeLimit(.minutes(30))) struct TokenTests {
    /// `hash('crc32b', …)` of Laravel's own tokens in the goldens is their last 8 digits.
    @Test func aTokenMadeByLaravelsRulesOpens() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let secret = "lZdtjbU6N8mYoaMnxMCe7reMEHpDigrkv7ZYJ7vl8e76d470"
            try await bench.insertToken(17, secret: secret)
            for token in ["17|\(secret)", "017|\(secret)", secret] {
                let answer = try await bench.get("/api/auth/me", as: token)
                #expect(answer.status == 200, "\(answer)")
                #expect(answer.json?["id"] == 1)
            }
            let lowercase = try await bench.send(
                .get, "/api/auth/me", headers: [.authorization: "bearer 17|\(secret)"])
            #expect(lowercase.status == 200)
        }
    }

    @Test func aTokenOfOursKeepsLaravelsRules() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let answer = try await bench.send(
                .post, "/api/auth/login", #"{"email":"user1@example.com","password":"password1"}"#)
            let token = try #require(answer.json?["token"]?.text)
            let parts = token.split(separator: "|")
            let secret = String(try #require(parts.last))
            #expect(secret.wholeMatch(of: /[A-Za-z0-9]{40}[0-9a-f]{8}/) != nil)
            let row = try await bench.text(
                """
                SELECT concat_ws('|', tokenable_type, tokenable_id, name, token, abilities, expires_at, created_at)
                FROM personal_access_tokens WHERE id = \(Int(parts[0]) ?? 0)
                """)
            let hash = SHA256.hash(data: Data(secret.utf8)).lowercaseHex
            #expect(row == #"App\Models\User|1|auth-token|\#(hash)|["*"]|2026-11-23 08:04:09"#)
            #expect(secret.suffix(8) == Self.crc32(String(secret.prefix(40))))
            #expect(Self.crc32("lZdtjbU6N8mYoaMnxMCe7reMEHpDigrkv7ZYJ7vl") == "8e76d470")
            #expect(try await bench.get("/api/auth/me", as: token).status == 200)
            #expect(try await bench.send(.post, "/api/auth/logout", as: token).status == 200)
            #expect(try await bench.get("/api/auth/me", as: token).status == 401)
        }
    }

    /// `tokenable_type` holds an alias of Laravel's morph map or the name of a class of users. Sanctum accepts the name
    /// of the class beside an alias.
    @Test(arguments: [
        (["SANCTUM_TOKENABLE_TYPE": "user, member"], ["user", "member", #"App\Models\User"#], "user"),
        (["AUTH_MODEL": #"\Domain\People\Person"#], [#"Domain\People\Person"#], #"Domain\People\Person"#),
        (
            ["SANCTUM_TOKENABLE_TYPE": "user", "AUTH_MODEL": #"Domain\Person"#], ["user", #"Domain\Person"#], "user"
        ),
        ([:], [#"App\Models\User"#], #"App\Models\User"#),
    ]) func theOwnersOfTokensAreCalledAsLaravelCallsThem(
        environment: [String: String], known: [String], new: String
    ) async throws {
        let settings = ["ADMIN_REGISTRATION": "open", "SANCTUM_TOKEN_PREFIX": "cf|_"].merging(environment) { $1 }
        try await AdminBench.with(settings) { bench in
            try await bench.makeUser(1)
            let owners = ["user", "member", "User", "team", #"App\Models\User"#, #"App\Models\Team"#] + known
            for (place, owner) in owners.enumerated() {
                try await bench.insertToken(1000 + place, secret: "cf|_secret\(place)", owner: owner)
                for token in ["\(1000 + place)|cf|_secret\(place)", "\(1000 + place)|secret\(place)"] {
                    let isKnown = known.contains(owner) && token.contains("cf")
                    #expect(
                        try await bench.get("/api/auth/me", as: token).status == (isKnown ? 200 : 401), "\(owner)")
                }
            }
            let login = try await bench.send(
                .post, "/api/auth/login", #"{"email":"user1@example.com","password":"password1"}"#)
            let registration = try await bench.send(
                .post, "/api/auth/register",
                #"{"name":"B","email":"b@example.com","password":"password1","password_confirmation":"password1"}"#)
            for answer in [login, registration] {
                let token = try #require(answer.json?["token"]?.text, "\(answer)")
                #expect(token.wholeMatch(of: /\d+\|cf\|_[A-Za-z0-9]{40}[0-9a-f]{8}/) != nil)
                #expect(String(token.suffix(8)) == Self.crc32(String(token.suffix(48).prefix(40))))
                #expect(try await bench.get("/api/auth/me", as: token).status == 200)
                let id = Int(token.prefix { $0 != "|" }) ?? 0
                let owner = try await bench.text(
                    "SELECT tokenable_type FROM personal_access_tokens WHERE id = \(id)::bigint")
                #expect(owner == new)
            }
        }
    }

    @Test func everyOtherTokenIsRefused() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let secret = "lZdtjbU6N8mYoaMnxMCe7reMEHpDigrkv7ZYJ7vl8e76d470"
            try await bench.insertToken(17, secret: secret)
            try await bench.insertToken(18, secret: "expired", expires: "2026-11-23 08:04:08")
            try await bench.insertToken(19, secret: "foreign", owner: #"App\Models\Team"#)
            try await bench.insertToken(20, secret: "orphan", user: 99)
            let wrong = [
                "17|\(secret.dropLast())1", "18|expired", "19|foreign", "20|orphan", "999|\(secret)", "abc|\(secret)",
                "17|",
                "|\(secret)", "", "garbage", "99999999999999999999999|\(secret)", "-17|\(secret)", "17|\(secret)|x",
            ]
            for token in wrong {
                let answer = try await bench.get("/api/auth/me", as: token)
                #expect(answer.description == #"401 {"message":"Unauthenticated."}"#, "\(token)")
            }
        }
    }

    @Test func aUseIsNotedOnceAMinute() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            let used: () async throws -> String? = {
                try await bench.text("SELECT to_char(max(last_used_at), 'HH24:MI:SS') FROM personal_access_tokens")
            }
            _ = try await bench.get("/api/auth/me", as: token)
            #expect(try await used() == "08:04:09")
            bench.clock.advance(by: .seconds(59))
            _ = try await bench.get("/api/auth/me", as: token)
            #expect(try await used() == "08:04:09")
            bench.clock.advance(by: .seconds(2))
            _ = try await bench.get("/api/auth/me", as: token)
            #expect(try await used() == "08:05:10")
        }
    }

    @Test func aFormLogsInToo() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let answer = try await bench.send(
                .post, "/api/auth/login", "email=user1%40example.com&password=password1",
                headers: [.contentType: "application/x-www-form-urlencoded"])
            #expect(answer.json?["user"]?["id"] == 1, "\(answer)")
        }
    }

    @Test(arguments: [
        (#"["*"]"#, ["read", "write", "key", "admin:read", "admin:write", "logout"]),
        (#"{"1":"*"}"#, ["read", "write", "key", "admin:read", "admin:write", "logout"]),
        (#"["read"]"#, ["read", "logout"]), (#"["write"]"#, ["write", "logout"]),
        (#"["key"]"#, ["key", "logout"]), (#"["admin:read"]"#, ["admin:read", "logout"]),
        (#"["admin:read","admin:write"]"#, ["admin:read", "admin:write", "logout"]),
        (#"["GET /api/auth/me"]"#, ["read", "logout"]), (#"["POST /api/settings/update"]"#, ["write", "logout"]),
        (#"["reports"]"#, ["logout"]), ("[]", ["logout"]), ("", ["logout"]), ("not json", ["logout"]),
        ("\"*\"", ["logout"]), ("[true]", ["logout"]), (nil, ["logout"]),
    ])
    func aTokenMayWhatItsAbilitiesSay(abilities: String?, allowed: [String]) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            let token = try await bench.token(of: 1)
            try await bench.execute("UPDATE personal_access_tokens SET abilities = \(abilities)")
            let asked: [(String, HTTPRequest.Method, String, String?)] = [
                ("read", .get, "/api/auth/me", nil), ("write", .post, "/api/settings/update", #"{"name":"Grace"}"#),
                ("key", .get, "/api/settings", nil), ("key", .post, "/api/settings/api-key/regenerate", nil),
                ("admin:read", .get, "/api/v1/admin/users", nil),
                ("admin:write", .post, "/api/v1/admin/users/1/activate", nil),
                ("logout", .post, "/api/auth/logout", nil),
            ]
            for (ability, method, path, body) in asked {
                let answer = try await bench.send(method, path, body, as: token)
                #expect(answer.status == (allowed.contains(ability) ? 200 : 403), "\(ability): \(answer)")
                if answer.status == 403, !path.hasPrefix("/api/v1/") {
                    #expect(answer.description == #"403 {"message":"Invalid ability provided."}"#)
                }
            }
        }
    }

    @Test func aTokenLivesAsLongAsSanctumSays() async throws {
        try await AdminBench.with(["SANCTUM_EXPIRATION": "60"]) { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            bench.clock.advance(by: .seconds(3599))
            #expect(try await bench.get("/api/auth/me", as: token).status == 200)
            bench.clock.advance(by: .seconds(1))
            #expect(
                try await bench.get("/api/auth/me", as: token).description == #"401 {"message":"Unauthenticated."}"#)
            // The later end in the row changes nothing.
            try await bench.execute("UPDATE personal_access_tokens SET expires_at = '2030-01-01'")
            #expect(try await bench.get("/api/auth/me", as: token).status == 401)
            try await bench.execute("UPDATE personal_access_tokens SET created_at = NULL, expires_at = NULL")
            #expect(try await bench.get("/api/auth/me", as: token).status == 401)
        }
    }

    @Test func suspendedUsersAreRefused() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, status: "suspended")
            let answer = try await bench.get("/api/auth/me", as: try await bench.token(of: 1))
            #expect(answer.description == #"403 {"message":"Your account has been suspended."}"#)
        }
    }

    /// PHP's `crc32b` by table-free definition, written anew.
    private static func crc32(_ text: String) -> String {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in text.utf8 {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0xEDB8_8320 : crc >> 1 }
        }
        return String(format: "%08x", ~crc)
    }
}

extension AdminBench {
    /// A row as Laravel writes one.
    fileprivate func insertToken(
        _ id: Int, secret: String, user: Int = 1, owner: String = #"App\Models\User"#, expires: String? = nil
    ) async throws {
        try await execute(
            """
            INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, abilities, expires_at)
            VALUES (\(id), \(owner), \(user), 'auth-token', encode(sha256(convert_to(\(secret), 'UTF8')), 'hex'),
                    '["*"]', \(expires)::timestamp)
            """)
    }
}
