import Foundation
import Postgres
import TestSupport
import Testing

/// `scripts/sample-traffic`, sent through a `webhook-api` for the five users of `make run`.
@Suite(.timeLimit(.minutes(30))) struct SampleTrafficTests {
    private static let plans = ["pro", "pro", "agency", "starter", "pro"]
    /// Noon of yesterday, in UTC: everything is past, and no test depends on the hour at which it runs.
    private static let end = Calendar.utc.startOfDay(for: .now).addingTimeInterval(-43_200)

    /// The users and a running service of one database.
    private struct Stage {
        let database: TestDatabase
        let port: Int
        let users: [String]
        let folder: URL

        /// Sends the traffic until `end`; what the program says.
        func send(until end: Date, key: String = webhookKey) async throws -> String {
            let file = folder.appending(path: "webhook-key")
            try Data("\(key)\n".utf8).write(to: file)
            return try await Command.run(
                Checkout.root.appending(path: "scripts/sample-traffic").path(),
                ["--users"] + users + [
                    "--endpoint", "http://127.0.0.1:\(port)", "--key-file", file.path(), "--end",
                    end.formatted(.iso8601),
                ])
        }

        /// How many events fulfil a condition in SQL.
        func events(_ condition: String) async throws -> Int {
            try await database.number("SELECT count(*) FROM metering.events WHERE \(unsafeSQL: condition)")
        }
    }

    private static let webhookKey = UUID().uuidString

    private static func withStage(_ body: (Stage) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try await withTestDatabase { database in
            let codexflow = Checkout.products.appending(path: "codexflow").path()
            var users: [String] = []
            for (number, plan) in plans.enumerated() {
                let user = try await Command.run(
                    codexflow,
                    [
                        "user", "create", "--name", "User \(number)", "--email", "user\(number)@codexflow.test",
                        "--plan", plan, "--json",
                    ], environment: ["DATABASE_URL": database.configuration.url])
                let file = folder.appending(path: "user\(number).json")
                try Data(user.utf8).write(to: file)
                users.append(file.path())
            }
            let service = try ServiceProcess.start(
                product: "webhook-api",
                environment: [
                    "DATABASE_URL": database.configuration.url, "WEBHOOK_PORT": "0",
                    "LITELLM_WEBHOOK_KEY": webhookKey,
                ])
            defer { service.kill() }
            let port = try await service.waitUntilListening()
            try await body(Stage(database: database, port: port, users: users, folder: folder))
        }
    }

    @Test func itHasWhatThePagesShow() async throws {
        try await Self.withStage { stage in
            let said = try await stage.send(until: Self.end)
            let stored = try await stage.database.number("SELECT count(*) FROM metering.events")
            #expect((3_000...6_500).contains(stored) && said.contains(" \(stored) stored"), "\(said)")
            #expect(try await stage.database.number("SELECT count(*) FROM api_logs") == stored)
            #expect(try await stage.events("tags @> ARRAY['demo'] AND flags IS NULL") == stored)
            let kinds = [
                ("user_id", 5), ("model_group", 7), ("provider", 4), ("status", 3), ("error_code", 6),
                ("end_user", 20), ("(occurred_at AT TIME ZONE 'UTC')::date", 60),
            ]
            for (column, least) in kinds {
                let found = try await stage.database.number(
                    "SELECT count(DISTINCT \(unsafeSQL: column)) FROM metering.events")
                #expect(found >= least, "\(column): \(found)")
            }
            let sorts = [
                ("status = 'rate_limited'", 30), ("is_cache_hit", 100), ("is_stream AND first_token_ms > 0", 1_000),
                ("cost IS NULL AND status = 'success'", 20),
            ]
            for (condition, least) in sorts {
                let found = try await stage.events(condition)
                #expect(found >= least && found * 4 < stored * 3, "\(condition): \(found)")
            }
            try await Self.expectRhythm(stage)
            try await Self.expectQuarantine(stage, said)
        }
    }

    private static func expectRhythm(_ stage: Stage) async throws {
        let month = "occurred_at > '\(end.formatted(.iso8601))'::timestamptz - interval '30 days'"
        let (recent, all) = (try await stage.events(month), try await stage.events("true"))
        #expect(recent * 5 > all * 3, "it grows: \(recent) of \(all)")
        let hour = "extract(hour FROM occurred_at AT TIME ZONE 'UTC')"
        let (day, night) = (
            try await stage.events("\(hour) BETWEEN 8 AND 15"), try await stage.events("\(hour) BETWEEN 0 AND 3")
        )
        #expect(day > night * 10, "\(day) by day, \(night) by night")
        let agency = "user_id = (SELECT id FROM users WHERE email LIKE 'user2@%')"
        let weekend = "\(agency) AND extract(isodow FROM occurred_at AT TIME ZONE 'UTC') >= 6"
        #expect(try await stage.events(weekend) * 6 < stage.events(agency), "an agency rests on two days of seven")
    }

    /// The first day of the two weeks, or the last, may lie outside.
    private static func expectQuarantine(_ stage: Stage, _ said: String) async throws {
        let reasons = try await stage.database.text(
            """
            SELECT string_agg(format('%s %s', reason, entries), ', ' ORDER BY reason)
            FROM (SELECT reason, count(*) AS entries FROM metering.quarantine GROUP BY reason) r
            """)
        let found = try #require(reasons)
        #expect(found.contains(/^denied [12], implausible_cost [12], unknown_key [56]$/), "\(found)")
        #expect(said.contains(/\ (?:[789]|10) quarantined$/), "\(said)")
    }

    @Test func whatIsSentAgainIsADuplicateAndALaterEndAddsTheNewCalls() async throws {
        try await Self.withStage { stage in
            _ = try await stage.send(until: Self.end)
            let first = try await stage.events("true")
            let again = try await stage.send(until: Self.end)
            #expect(again.contains(": 0 stored, \(first) duplicates, 0 conflicts, "), "\(again)")
            let newest = try await stage.database.number("SELECT max(id) FROM api_logs")
            let later = try await stage.send(until: Self.end.addingTimeInterval(43_200))
            #expect(later.contains(" 0 conflicts, "), "\(later)")
            // Calls that had not ended then may have begun minutes before.
            let since = "occurred_at > '\(Self.end.formatted(.iso8601))'::timestamptz - interval '10 minutes'"
            let added = try await stage.events("api_log_id > metering.log_position(\(newest))")
            #expect(added > 0)
            #expect(try await stage.events("\(since) AND api_log_id > metering.log_position(\(newest))") == added)
        }
    }

    @Test func aWrongKeyEndsItWithTheAnswer() async throws {
        try await Self.withStage { stage in
            let failure = try await #require(throws: Command.Failure.self) {
                try await stage.send(until: Self.end, key: "another key")
            }
            #expect(failure.output.contains("a body was answered 401"))
            let stored = try await stage.events("true")
            #expect(stored == 0)
        }
    }
}

extension Calendar {
    fileprivate static let utc: Calendar = {
        var calendar = Calendar(identifier: .iso8601)
        calendar.timeZone = .gmt
        return calendar
    }()
}
