import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// The program as an operator runs it: a process, sockets, signals.
@Suite(.timeLimit(.minutes(30))) struct ServiceTests {
    private func makeUsers(_ count: Int, _ database: TestDatabase) async throws {
        try await database.execute(
            """
            INSERT INTO users (name, email, password, api_key)
            SELECT 'Ada', 'user' || g, 'x', 'cf_user' || g FROM generate_series(1, \(count)) g
            """)
    }

    /// `docs/laravel.md`: 74 of 400 answered 500, and counters lost 52 to 74 requests.
    @Test func theFirstHitsOfFiftyUsersAreExactAndAStaleResetIsRepaired() async throws {
        try await withTestDatabase { database in
            try await makeUsers(50, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for index in 0..<400 {
                        group.addTask {
                            try await webhook.post(
                                #"{"user_id":"cf_user\#(index / 8 + 1)","usage":{"prompt_tokens":3},"cost":0.1}"#
                            ).status
                        }
                    }
                    for try await status in group { #expect(status == 201) }
                }
                #expect(try await database.number("SELECT count(*) FROM api_logs") == 400)
                let exact: Query = """
                    SELECT count(*) FROM rate_limits WHERE used_requests = 8 AND used_tokens = 24
                    """
                #expect(try await database.number(exact, becoming: 100, within: .seconds(10)) == 100)

                // Laravel's limit service wipes what was counted meanwhile.
                try await database.execute(
                    "UPDATE rate_limits SET used_tokens = 0, used_requests = 0, reset_at = now() WHERE user_id <= 10")
                #expect(try await database.number(exact, becoming: 100, within: .seconds(10)) == 100)
            }
        }
    }

    @Test func twoProcessesTakeTheSameEventsOnce() async throws {
        try await withTestDatabase { database in
            try await makeUsers(5, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { first in
                try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { second in
                    let bodies = (0..<30).map { body in
                        let events = (0..<10).map {
                            litellmEvent(body * 10 + $0, key: "cf_user\(($0 + body) % 5 + 1)")
                        }
                        return "[\(events.joined(separator: ","))]"
                    }
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for body in bodies {
                            for webhook in [first, second] { group.addTask { try await webhook.post(body).status } }
                        }
                        for try await status in group { #expect(status == 200) }
                    }
                    #expect(try await database.number("SELECT count(*) FROM api_logs") == 300)
                    let requests: Query = """
                        SELECT coalesce(sum(used_requests), 0) FROM rate_limits WHERE period = 'daily'
                        """
                    #expect(try await database.number(requests, becoming: 300, within: .seconds(10)) == 300)
                }
            }
            let deadlocks = try await database.number(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            #expect(deadlocks == 0)
        }
    }

    @Test func fourBadEventsOfAHundredAreQuarantined() async throws {
        try await withTestDatabase { database in
            try await makeUsers(3, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                _ = try await webhook.post("[\(litellmEvent(1000, key: "cf_user2"))]")
                try await database.execute("DELETE FROM users WHERE api_key = 'cf_user2'")
                var events = (0..<96).map { litellmEvent($0, key: "cf_user1") }
                events.append(litellmEvent(96, key: "cf_user2"))
                events.append(litellmEvent(97, key: "cf_user3"))
                events.append(
                    litellmEvent(98, key: "cf_user1").replacing(
                        #""response_cost":0.0015"#, with: #""response_cost":1e9"#))
                events.append(litellmEvent(99, key: "cf_user1", fields: #","startTime":3600.5"#))

                // The transaction stays open until the events of all other users were answered.
                let lock = try await OpenTransaction.begin(database.pool) { connection in
                    try connection.execute("SELECT FROM users WHERE api_key = 'cf_user3' FOR UPDATE")
                }
                let answer = try await webhook.post("[\(events.joined(separator: ","))]")
                try await lock.end()
                #expect(answer.status == 200)
                #expect(answer.body.contains(#""stored":96,"duplicates":0,"conflicts":0,"quarantined":4"#))
                for reason in ["user_locked", "unknown_", "implausible_cost", "implausible_time"] {
                    #expect(answer.body.contains(reason))
                }
                let locked: Query = """
                    SELECT count(*) FROM api_logs l JOIN users u ON u.id = l.user_id WHERE u.api_key = 'cf_user3'
                    """
                #expect(try await database.number(locked, becoming: 1, within: .seconds(20)) == 1)
            }
        }
    }

    @Test func withoutPostgresItAnswers503AndRecoversByItself() async throws {
        try await withPostgresCluster { cluster in
            let migrate = try ServiceProcess.start(
                product: "codexflow", arguments: ["migrate"],
                environment: ["DATABASE_URL": cluster.configuration.url, "MIGRATIONS_PATH": Checkout.migrations])
            #expect(try await migrate.waitForExit() == 0)
            try await TestRoles.grant(on: cluster.configuration)
            try await RunningWebhook.with(databaseURL: cluster.configuration.role(.webhook).url) { webhook in
                #expect(try await webhook.get("/health/ready").status == 200)
                try await cluster.stop(.immediate)
                let refused = try await webhook.post(#"{"user_id":"cf_user1"}"#)
                #expect(refused.status == 503)
                #expect(refused.retryAfter != nil)
                #expect(try await webhook.becomesReady(503))
                #expect(try await webhook.get("/health/live").status == 200)
                try await cluster.start()
                #expect(try await webhook.post(#"{"user_id":"cf_user1"}"#).status == 404)
                #expect(try await webhook.becomesReady(200))
            }
        }
    }

    @Test func aTableThatSomebodyLocksWholeIsA503NotAWaitForTheSendersTimeout() async throws {
        try await withTestDatabase { database in
            try await makeUsers(1, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                let lock = try await OpenTransaction.begin(database.pool) { connection in
                    try connection.executeScript("LOCK TABLE api_logs IN ACCESS EXCLUSIVE MODE")
                }
                let body = "[\(litellmEvent(1, key: "cf_user1"))]"
                let refused = try await webhook.post(body)
                #expect(refused.status == 503)
                #expect(refused.retryAfter != nil)
                try await lock.end()
                #expect(try await webhook.post(body).body.contains(#""stored":1"#))
            }
        }
    }

    @Test func memoryIsBoundedWhile64ConnectionsPostAMegabyteEach() async throws {
        try await withTestDatabase { database in
            try await makeUsers(1, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for index in 0..<256 {
                        if index >= 64 { #expect(try await group.next() == 200) }
                        let body = "[\(litellmEvent(index, key: "cf_user1", padding: 1_000_000))]"
                        group.addTask { try await webhook.post(body).status }
                    }
                    for try await status in group { #expect(status == 200) }
                }
                #expect(try await database.number("SELECT count(*) FROM api_logs") == 256)
                let status = try String(
                    contentsOfFile: "/proc/\(webhook.process.processID)/status", encoding: .utf8)
                let peak = status.firstMatch(of: /VmHWM:\s+(\d+) kB/).flatMap { Int($0.1) }
                #expect(try #require(peak) < 128 << 10)
            }
        }
    }

    @Test func sigtermAnswersWhatWasTakenAndEndsWithZero() async throws {
        try await withTestDatabase { database in
            try await makeUsers(1, database)
            let webhook = try await RunningWebhook(databaseURL: database.url(as: .webhook))
            let answers = (0..<32).map { index in
                Task { try await webhook.post("[\(litellmEvent(index, key: "cf_user1"))]").status }
            }
            _ = try await answers[0].value
            webhook.process.terminate()
            #expect(try await webhook.process.waitForExit() == 0)
            var acknowledged = 0
            for answer in answers where (try? await answer.value) == 200 { acknowledged += 1 }
            #expect(acknowledged > 0)
            #expect(try await database.number("SELECT count(*) FROM api_logs") == acknowledged)
            // What was counted is in Laravel's table too, although the process is gone.
            let used = try await database.number("SELECT used_requests FROM rate_limits WHERE period = 'daily'")
            #expect(try await database.number("SELECT count(*) FROM api_logs") == used)
        }
    }

    @Test func theLogHasOneLineForEachRequestAndNoSecret() async throws {
        try await withTestDatabase { database in
            try await makeUsers(1, database)
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook), ["LOG_LEVEL": "debug"]) { webhook in
                _ = try await webhook.post(
                    "[\(litellmEvent(1, key: "cf_user1")),\(litellmEvent(2, key: "cf_unknown"))]")
                try await webhook.process.waitForOutput("status=200")
                let line = try #require(
                    webhook.process.output.split(separator: "\n").first { $0.contains("path=/api/webhook/litellm") })
                for fact in ["stored=1", "quarantined=1", "duration_ms=", "status=200"] {
                    #expect(line.contains(fact), "\(line)")
                }
                for secret in ["cf_user1", "cf_unknown", WebhookBench.key] {
                    #expect(!webhook.process.output.contains(secret))
                }
                let metrics = try await webhook.get("/metrics").body
                let route = #"method="POST",route="/api/webhook/litellm""#
                for sample in [
                    "http_requests_total{\(route),status=\"200\"} 1", "http_request_duration_seconds_count{\(route)} 1",
                    #"webhook_events_total{verdict="stored"} 1"#, #"webhook_events_total{verdict="quarantined"} 1"#,
                    #"webhook_quarantined_total{reason="unknown_key"} 1"#, "http_body_budget_used_bytes 0",
                ] {
                    #expect(metrics.contains(sample + "\n"), "\(sample)")
                }
            }
        }
    }

    @Test func aStartThatCannotWorkSaysWhyInOneLineEach() async throws {
        try await withTestDatabase(.empty) { database in
            let cases: [([String: String], String)] = [
                (["LITELLM_WEBHOOK_KEY": ""], "LITELLM_WEBHOOK_KEY"),
                (["LITELLM_WEBHOOK_KEY": "your_secure_webhook_key_here_and_more"], "placeholder"),
                (["WEBHOOK_PORT": "80x"], "WEBHOOK_PORT: '80x'"),
                ([:], "Run 'codexflow migrate'"),
            ]
            for (environment, words) in cases {
                let given = ["DATABASE_URL": database.url(as: .webhook), "LITELLM_WEBHOOK_KEY": WebhookBench.key]
                let process = try ServiceProcess.start(
                    product: "webhook-api", environment: given.merging(environment) { _, own in own })
                #expect(try await process.waitForExit() == 1)
                #expect(process.output.contains(words), "\(process.output)")
            }
        }
    }

    @Test func itDoesNotStartWithoutARightOnOurSchemaAndSaysWhich() async throws {
        try await withTestDatabase { database in
            try await database.execute("REVOKE INSERT ON metering.events FROM codexflow_webhook")
            let process = try ServiceProcess.start(
                product: "webhook-api",
                environment: [
                    "DATABASE_URL": database.url(as: .webhook), "LITELLM_WEBHOOK_KEY": WebhookBench.key,
                    "WEBHOOK_PORT": "0",
                ])
            #expect(try await process.waitForExit() == 1)
            #expect(process.output.contains("codexflow_webhook lacks INSERT on metering.events"))
            #expect(process.output.contains("codexflow grants"))
        }
    }

    /// As Laravel's own `.env` has it.
    @Test func aSuperuserIsWarnedOfAndServesAllTheSame() async throws {
        try await withTestDatabase { database in
            try await RunningWebhook.with(databaseURL: database.configuration.url) { webhook in
                #expect(webhook.process.output.contains("stronger than needed"))
                #expect(webhook.process.output.contains("is a superuser"))
                let ready = try await webhook.get("/health/ready").status
                #expect(ready == 200)
            }
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                #expect(!webhook.process.output.contains("stronger than needed"))
            }
        }
    }

    @Test func itStopsWhenTheDatabaseIsNoLongerTheSame() async throws {
        try await withTestDatabase { database in
            let webhook = try await RunningWebhook(databaseURL: database.url(as: .webhook))
            try await database.execute("UPDATE metering.installation SET api_logs_table = 1")
            #expect(try await webhook.process.waitForExit() == 1)
            #expect(webhook.process.output.contains("codexflow adopt"))
        }
    }
}
