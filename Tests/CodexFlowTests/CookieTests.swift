import Foundation
import HTTPSupport
import Postgres
import Storage
import TestSupport
import Testing

@testable import CodexFlow

/// `codexflow doctor --cookie`: the program says at which step a browser's cookie is lost, and shows nothing of it.
@Suite(.timeLimit(.minutes(30))) struct CookieTests {
    /// `APP_KEY` and an older key, of 32 letters.
    private static let keys = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"]
    private static let id = "Abcdefghijklmnopqrstuvwxyz01234567890123"
    // Made by PHP 8.2 as Laravel's Encrypter does, under these keys, of 'hmac_sha1(name + "v2")|id'.
    private static let cookies = [
        "codexflow-session":
            "eyJpdiI6Imc2YW9GelNOOHp4SDZ0ZDl3RWFwenc9PSIsInZhbHVlIjoiVGN2ZXV5QXpBaG53QWh4ZEdmUld6blY0aEpZZTRTK2I4"
            + "Z1J1Qm82UGNIcnVjcXdXS3ZRVjlUUm1zekppbmF6U2xZU2lYakZUZXZSeFc1QVFRTkU5YzREeVJOOFNNZzdwN1NFUVhFakZRWXpF"
            + "R1FoNG8zRVRTNkF1eXVpYm5XOHciLCJtYWMiOiI4NTQ4MzhhYWQ3ZGEyYTIwZGQ4YTJhMzQyNGQ1MTg4M2QyY2E1MTNlZmNlMzQz"
            + "NjQyZWJiMmJmYzY1NzE4NzFhIiwidGFnIjoiIn0%3D",
        "codexflow_session":
            "eyJpdiI6IkIrQzNnNUFDM1lzRlBZbWFmaWxTN0E9PSIsInZhbHVlIjoiaEtkWmFFeHpBTlcya1NEa1REQU4yWFlrMnB5RlZGS0l2"
            + "YU1LMlhaQjJMZTZXTmNaeUwrUTZMVUQyekEyQ1ZiUXd3OUY3L0paUEZoeU5qRjVGSDVjaVZTRHF3THkvK09nckVwaEE1QjhnN3lz"
            + "c0dwdnVKNVpEUkRoTW9sOFlRTUciLCJtYWMiOiI2M2YxYTY1ZDU4OGNhNWJkZmIyZmM2NmQ4NjU4MDdjN2FjMGUwMzIxODVlYzYx"
            + "MjVkZmE2NjViOWVmZThiNmQ3IiwidGFnIjoiIn0%3D",
        "gcm":
            "eyJpdiI6Ik1USXpORFUyTnpnNU1ERXkiLCJ2YWx1ZSI6ImFiY2QiLCJtYWMiOiIiLCJ0YWciOiJNVEl6TkRVMk56ZzVNREV5TXpR"
            + "MU5nPT0ifQ%3D%3D",
    ]

    private struct Outcome {
        let exitCode: Int32
        let lines: [String]
        let output: String
    }

    private func follow(
        _ cookie: String, _ environment: [String: String] = [:], sessionAge: Int = 60, userID: Int? = 1,
        payload: String = "a:1:{s:6:\"_token\";s:3:\"abc\";}", prepare: Query = "SELECT 1", isOnInput: Bool = false
    ) async throws -> Outcome {
        try await withTestDatabase { database in
            try await database.execute(
                "INSERT INTO users (name, email, password) VALUES ('Ada', 'ada@example.com', 'x')")
            try await database.execute(
                """
                INSERT INTO sessions (id, user_id, payload, last_activity)
                VALUES (\(Self.id), \(userID), \(Data(payload.utf8).base64EncodedString()),
                        extract(epoch FROM now())::int - \(sessionAge))
                """)
            try await database.execute(prepare)
            let given = [
                "DATABASE_URL": database.url(as: .operator), "ADMIN_DATABASE_URL": database.url(as: .admin),
                "MIGRATIONS_PATH": Checkout.migrations, "WEBHOOK_PORT": "1",
                "LITELLM_WEBHOOK_KEY": "4f1c9e07b2a8d6350f7e41c98b2d60a3", "APP_KEY": Self.keys[0],
                "APP_NAME": "CodexFlow",
            ].merging(environment) { $1 }.filter { !$0.value.isEmpty }
            let program = Checkout.products.appending(path: "codexflow").path()
            let process =
                isOnInput
                ? try ServiceProcess.start(
                    path: "/bin/sh", arguments: ["-c", "printf %s \"$COOKIE\" | \(program) doctor --cookie-stdin"],
                    environment: given.merging(["COOKIE": cookie]) { $1 })
                : try ServiceProcess.start(
                    product: "codexflow", arguments: ["doctor", "--cookie", cookie], environment: given)
            let exitCode = try await process.waitForExit(within: .seconds(60))
            let lines = process.output.split(separator: "\n").map(String.init).filter { $0.contains(" cookie  ") }
            return Outcome(exitCode: exitCode, lines: lines, output: process.output)
        }
    }

    private func expect(
        _ outcome: Outcome, steps: Int, _ words: String, isLost: Bool = true,
        at location: SourceLocation = #_sourceLocation
    ) {
        let last = outcome.lines.last ?? ""
        #expect(outcome.lines.count == steps, "\(outcome.output)", sourceLocation: location)
        #expect(last.contains(words), "\(outcome.output)", sourceLocation: location)
        #expect(last.hasPrefix(isLost ? "failure" : "ok"), "\(last)", sourceLocation: location)
        #expect((outcome.exitCode == 1) == isLost, "\(outcome.output)", sourceLocation: location)
        for secret in [Self.id] + Self.keys + Self.cookies.values.map({ String($0.prefix(24)) }) {
            #expect(!outcome.output.contains(secret), sourceLocation: location)
        }
    }

    private func cookie(_ name: String, as other: String? = nil) throws -> String {
        "\(other ?? name)=\(try #require(Self.cookies[name]))"
    }

    @Test func aLiveCookieIsFollowedToItsUser() async throws {
        let good = try cookie("codexflow-session")
        expect(try await follow(good), steps: 4, "it is user 1", isLost: false)
        expect(
            try await follow("Cookie: a=1; XSRF-TOKEN=x; \(good)", isOnInput: true), steps: 4, "it is user 1",
            isLost: false)
        let older = ["APP_KEY": Self.keys[1], "APP_PREVIOUS_KEYS": Self.keys[0]]
        let found = try await follow(good, older)
        expect(found, steps: 4, "it is user 1", isLost: false)
        #expect(found.lines[1].contains("number 1 of APP_PREVIOUS_KEYS opens it"))
    }

    @Test func theNameIsTheFirstStep() async throws {
        let good = try cookie("codexflow-session")
        expect(
            try await follow(good, ["APP_NAME": "Other"]), steps: 1,
            "it is Laravel's, but its name is 'codexflow-session' and not 'other-session' or 'other_session'")
        expect(try await follow("sid=abc"), steps: 1, "its name is 'sid', and 'codexflow-session' or")
        expect(try await follow(good, ["APP_KEY": ""]), steps: 1, "APP_KEY is not set")
    }

    @Test func theValueIsTheSecond() async throws {
        expect(try await follow("codexflow-session=abc"), steps: 2, "not what Laravel encrypts")
        let good = try cookie("codexflow-session")
        expect(try await follow(good, ["APP_KEY": Self.keys[1]]), steps: 2, "APP_KEY did not make it")
        expect(
            try await follow(try cookie("gcm", as: "codexflow-session")), steps: 2, "a cipher that is not supported")
        expect(
            try await follow(try cookie("codexflow_session", as: "codexflow-session")), steps: 3,
            "made for a cookie of another name")
    }

    @Test func theSessionIsTheThird() async throws {
        let good = try cookie("codexflow-session")
        expect(try await follow(good, prepare: "DELETE FROM sessions"), steps: 3, "no row in sessions")
        expect(try await follow(good, ["SESSION_TABLE": "nothing"]), steps: 3, "nothing is not a table")
        expect(try await follow(good, ["ADMIN_DATABASE_URL": ""]), steps: 3, "the role may not read sessions")
        expect(try await follow(good, sessionAge: 7300), steps: 3, "last used 121 minutes ago and lives 120")
        expect(try await follow(good, ["SESSION_ENCRYPT": "true"]), steps: 3, "with SESSION_ENCRYPT=true")
        let folder = FileManager.default.temporaryDirectory.path()
        expect(
            try await follow(good, ["SESSION_DRIVER": "file", "SESSION_FILES": folder]), steps: 3,
            "no file in the folder of SESSION_FILES")
    }

    @Test func theUserIsTheLast() async throws {
        let good = try cookie("codexflow-session")
        expect(try await follow(good, userID: nil), steps: 4, "nobody is logged in")
        expect(try await follow(good, userID: 99), steps: 4, "user 99 is not there")
        expect(
            try await follow(good, prepare: "UPDATE users SET status = 'suspended'"), steps: 4, "is suspended")
        expect(
            try await follow(good, payload: #"{"_token":"abc","password_hash_web":"former"}"#), steps: 4,
            "was changed since")
    }
}
