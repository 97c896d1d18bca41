import Bootstrap
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

/// Laravel's session cookie, with both drivers (`docs/laravel.md`).
@Suite(.timeLimit(.minutes(30))) struct SessionTests {
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

    /// The cookie of each version's default, and none of another name.
    @Test(arguments: [
        ("Ada's & Bob.com", ["adas-bobcom-session", "adas_bobcom_session", "ada's&_bob.com_session"]),
        (
            "Fıstık Şirketi @ İzmir",
            ["fistik-sirketi-at-izmir-session", "fistik_sirketi_at_izmir_session", "fıstıkşirketi@i̇zmir_session"]
        ),
        ("", ["laravel-session", "laravel_session", "-session", "_session"]),
        ("日本", ["-session", "_session", "日本_session"]),
    ]) func theCookieIsNamedAsLaravelNamesIt(appName: String, names: [String]) async throws {
        try await withSession("database", ["APP_NAME": appName]) { bench, cookie in
            for name in names {
                let value = try cookie.value(name)
                let stale = "\(name)=\(try cookie.value(name, String(LaravelCookie.sessionID.reversed())))"
                let me = try await bench.send(.get, "/api/auth/me", headers: headers(value, name: name))
                #expect(me.json?["id"] == 1, "\(name): \(me)")
                // What belongs to another name, also where it stands first.
                let foreign = try cookie.value("\(name)x")
                #expect(
                    try await bench.send(.get, "/api/auth/me", headers: headers(foreign, name: name)).status == 401)
                let both: HTTPFields = [.cookie: "\(name)=\(foreign); \(name)=\(value); \(stale)"]
                #expect(try await bench.send(.get, "/api/auth/me", headers: both).status == 200, "\(name)")
            }
            let other = try cookie.value("bob_session")
            #expect(
                try await bench.send(.get, "/api/auth/me", headers: headers(other, name: "bob_session")).status == 401)
        }
        try await withSession("database", ["APP_NAME": appName, "SESSION_COOKIE": "Own.Name"]) { bench, cookie in
            let value = try cookie.value("Own.Name")
            #expect(try await bench.send(.get, "/api/auth/me", headers: headers(value, name: "Own.Name")).status == 200)
            let standard = try cookie.value(names[0])
            #expect(
                try await bench.send(.get, "/api/auth/me", headers: headers(standard, name: names[0])).status == 401)
        }
    }

    /// `SESSION_TABLE`, with the rights that `codexflow grants` gives for it.
    @Test(arguments: ["web_sessions", "app.Sessions"]) func sessionsMayBeInAnotherTable(name: String) async throws {
        let table = try #require(SessionTable(name))
        try await withSession("database", ["SESSION_TABLE": name]) { bench, cookie in
            let parts = name.split(separator: ".").map { "\"\($0)\"" }
            try await bench.pool.withConnection { connection in
                try connection.executeScript("CREATE SCHEMA app")
                let place = (parts.count == 1 ? ["public"] : []) + parts
                try connection.executeScript("ALTER TABLE sessions RENAME TO former")
                try connection.executeScript("CREATE TABLE \(place.joined(separator: ".")) AS SELECT * FROM former")
                let script = GrantScript(prefix: TestRoles.prefix, sessions: table)
                try connection.executeScript("ALTER TABLE former RENAME TO sessions")
                try connection.executeScript(script.text(database: bench.database.name))
                try connection.executeScript("DELETE FROM sessions")
            }
            let answer = try await bench.send(.get, "/api/auth/me", headers: headers(try cookie.value(Self.name)))
            #expect(answer.json?["id"] == 1, "\(answer)")
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
        (["APP_KEY": "short"], "APP_KEY: is not a key of 32 bytes"),
        (["SESSION_TABLE": "a b"], "SESSION_TABLE: is not the name of a table"),
        (["SESSION_TABLE": "x\"; DROP TABLE users"], "SESSION_TABLE: is not the name of a table"),
        (["SESSION_CONNECTION": "sessions"], "SESSION_CONNECTION: is another connection"),
        (
            ["SANCTUM_TOKENABLE_TYPE": "user," + String(repeating: "x", count: 256)],
            "SANCTUM_TOKENABLE_TYPE: is not a list"
        ),
    ])
    func impossibleSettingsAreRefusedAtStart(environment: [String: String], problem: String) async throws {
        let given = ["APP_KEY": LaravelCookie.key].merging(environment) { $1 }
        let error = #expect(throws: ConfigurationError.self) {
            _ = try SettingsReader(environment: given).read(AdminSettings.init(reading:))
        }
        #expect(try #require(error).problems.contains { $0.hasPrefix(problem) })
    }
}
