import Bootstrap
import Crypto
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// Laravel's session cookie, with both drivers (`laravel.md` §5).
@Suite struct SessionTests {
    private static let csrf = "csrfcsrfcsrfcsrfcsrfcsrfcsrfcsrfcsrfcsrf"
    private static let name = "codexflow-session"

    /// Gives `body` a service beside a Laravel of these settings, whose user 1 is logged in.
    private func withSession(
        _ driver: String, isEncrypted: Bool = false, passwordHash: (key: String, value: String)? = nil,
        _ environment: [String: String] = [:],
        _ body: @escaping @Sendable (AdminBench, LaravelCookie) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let settings = [
            "APP_KEY": LaravelCookie.key, "APP_NAME": "CodexFlow", "SESSION_DRIVER": driver,
            "SESSION_FILES": folder.path(), "SESSION_ENCRYPT": "\(isEncrypted)",
        ]
        let cookie = try LaravelCookie()
        let plain = LaravelCookie.session(of: 1, token: Self.csrf, passwordHash: passwordHash)
        let payload = isEncrypted ? try cookie.encrypt("s:\(plain.utf8.count):\"\(plain)\";") : plain
        try await AdminBench.with(settings.merging(environment) { $1 }) { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            if driver == "file" {
                let file = folder.appending(path: LaravelCookie.sessionID)
                try Data(payload.utf8).write(to: file)
                let now = Date(timeIntervalSince1970: Double(bench.clock.now.microseconds) / 1_000_000)
                try FileManager.default.setAttributes([.modificationDate: now], ofItemAtPath: file.path())
            } else {
                try await bench.execute(
                    """
                    INSERT INTO sessions (id, user_id, payload, last_activity)
                    VALUES (\(LaravelCookie.sessionID), 1, \(Data(payload.utf8).base64EncodedString()),
                            \(bench.clock.now.microseconds / 1_000_000))
                    """)
            }
            try await body(bench, cookie)
        }
    }

    private func headers(_ value: String, name: String = name, csrf: String? = nil) -> HTTPFields {
        var headers: HTTPFields = [.cookie: "other=1; \(name)=\(value)"]
        headers[.csrfToken] = csrf
        return headers
    }

    @Test(arguments: ["database", "file"], [false, true])
    func aSessionOpensAndChangesNeedItsToken(driver: String, isEncrypted: Bool) async throws {
        try await withSession(driver, isEncrypted: isEncrypted) { bench, cookie in
            let value = try cookie.value(Self.name)
            let me = try await bench.send(.get, "/api/auth/me", headers: headers(value))
            #expect(me.json?["id"] == 1, "\(me)")
            let change = #"{"name":"Grace"}"#
            for wrong in [nil, "", Self.csrf + "x", String(Self.csrf.dropLast()) + "x"] {
                let refused = try await bench.send(
                    .post, "/api/settings/update", change, headers: headers(value, csrf: wrong))
                #expect(refused.description == #"419 {"message":"CSRF token mismatch."}"#)
            }
            let changed = try await bench.send(
                .post, "/api/settings/update", change, headers: headers(value, csrf: Self.csrf))
            #expect(changed.status == 200, "\(changed)")
            var other = headers(value)
            other[.xsrfToken] = try cookie.value("XSRF-TOKEN", Self.csrf)
            #expect(try await bench.send(.post, "/api/settings/update", change, headers: other).status == 200)
            #expect(changed.headers[HTTPField.Name("Access-Control-Allow-Credentials")!] == nil)
        }
    }

    @Test(arguments: ["database", "file"]) func everyOtherCookieIsRefused(driver: String) async throws {
        try await withSession(driver) { bench, cookie in
            let good = try cookie.value(Self.name)
            let foreign = try LaravelCookie(key: LaravelCookie.otherKey)
            let wrong = [
                try foreign.value(Self.name), try cookie.value("XSRF-TOKEN"),
                try cookie.value(Self.name, "../../etc/passwd"),
                try cookie.value(Self.name, String(LaravelCookie.sessionID.reversed())), LaravelCookie.sessionID, "",
                String(good.dropLast(12)) + "AAAA" + String(good.suffix(8)),
                try cookie.encrypt(LaravelCookie.sessionID),
            ]
            for value in wrong {
                let answer = try await bench.send(.get, "/api/auth/me", headers: headers(value))
                #expect(answer.status == 401, "\(value)")
            }
            #expect(try await bench.send(.get, "/api/auth/me", headers: headers(good, name: "session")).status == 401)
            bench.clock.advance(by: .seconds(2 * 3600 + 1))
            #expect(try await bench.send(.get, "/api/auth/me", headers: headers(good)).status == 401)
        }
    }

    /// What Laravel's and Sanctum's `AuthenticateSession` keep in a session: the hash itself before 12.45, then an HMAC
    /// of it.
    @Test(arguments: ["database", "file"], ["password_hash_web", "password_hash_sanctum"])
    func aChangedPasswordEndsTheSessionsThatRememberTheOldOne(driver: String, key: String) async throws {
        let hash = "$2y$04$abcdefghijklmnopqrstuuKXUk7ZtVtPhpG5nEIXOOpAGv0yMqHmG"
        let digests = [LaravelCookie.key, "base-key-for-password-hash-mac"].map { secret in
            HMAC<SHA256>.authenticationCode(for: Data(hash.utf8), using: SymmetricKey(data: Data(secret.utf8)))
                .lowercaseHex
        }
        for remembered in [hash] + digests {
            try await withSession(driver, passwordHash: (key, remembered)) { bench, cookie in
                let field = try cookie.value(Self.name)
                try await bench.execute("UPDATE users SET password = \(hash) WHERE id = 1")
                #expect(try await bench.send(.get, "/api/auth/me", headers: headers(field)).status == 200)
                // Sanctum revokes no token of its own; neither do we.
                let token = try await bench.token(of: 1)
                try await bench.execute("UPDATE users SET password = 'changed' WHERE id = 1")
                let ended = try await bench.send(.get, "/api/auth/me", headers: headers(field))
                #expect(ended.description == #"401 {"message":"Unauthenticated."}"#)
                #expect(try await bench.get("/api/auth/me", as: token).status == 200)
            }
        }
    }

    @Test func aPreviousKeyStillOpens() async throws {
        let keys = ["APP_KEY": LaravelCookie.otherKey, "APP_PREVIOUS_KEYS": "\(LaravelCookie.key)"]
        try await withSession("database", keys) { bench, cookie in
            let answer = try await bench.send(.get, "/api/auth/me", headers: headers(try cookie.value(Self.name)))
            #expect(answer.status == 200)
        }
    }

    @Test func suspendedUsersAreRefused() async throws {
        try await withSession("database") { bench, cookie in
            try await bench.execute("UPDATE users SET status = 'suspended'")
            let answer = try await bench.send(.get, "/api/auth/me", headers: headers(try cookie.value(Self.name)))
            #expect(answer.status == 403)
        }
    }

    @Test(arguments: [
        (["SESSION_DRIVER": "redis"], "SESSION_DRIVER: 'redis' is not one of database, file"),
        (["SESSION_DRIVER": "file", "SESSION_FILES": "/nowhere"], "SESSION_FILES: is not the folder"),
        (["SESSION_DRIVER": "file"], "SESSION_FILES: is not the folder"),
        (["APP_KEY": "base64:AAAA"], "APP_KEY: is not a key of 32 bytes"),
    ])
    func whatCannotWorkIsRefusedAtStart(environment: [String: String], problem: String) async throws {
        let given = ["APP_KEY": LaravelCookie.key].merging(environment) { $1 }
        let error = #expect(throws: ConfigurationError.self) {
            _ = try SettingsReader(environment: given).read(AdminSettings.init(reading:))
        }
        #expect(try #require(error).problems.contains { $0.hasPrefix(problem) })
    }
}
