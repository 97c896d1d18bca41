import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// The operator's command line, as a process of its own.
@Suite(.timeLimit(.minutes(30))) struct CommandLineTests {
    /// Runs `codexflow` on `database` and returns its exit code and what it printed.
    private func codexflow(
        _ arguments: [String], on database: TestDatabase
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: arguments,
            environment: [
                "DATABASE_URL": database.url(as: .operator), "MIGRATE_DATABASE_URL": database.url(as: .owner),
                "MIGRATIONS_PATH": Checkout.migrations,
            ])
        let exitCode = try await process.waitForExit()
        return (exitCode, process.output)
    }

    @Test func theSchemaIsMigratedAndReported() async throws {
        try await withTestDatabase(.empty) { database in
            let before = try await codexflow(["schema"], on: database)
            #expect(before.exitCode == 1)
            #expect(before.output.contains("missing migration 0001_laravel_tables"))
            #expect(try await codexflow(["migrate"], on: database).output.contains("applied 0001_laravel_tables"))
            let again = try await codexflow(["migrate"], on: database)
            #expect(again.exitCode == 0)
            #expect(!again.output.contains("applied"))
            #expect(try await codexflow(["schema"], on: database).exitCode == 0)
        }
    }

    @Test func anEventIsWithdrawn() async throws {
        try await withTestDatabase { database in
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password, api_key)
                VALUES (7, 'Ada', 'ada@example.com', 'x', 'cf_ada')
                """)
            let now = Timestamp.now
            let writer = EventWriter(pool: database.pool(as: .webhook), now: { now })
            var event = UsageEvent.sample(1, by: .user(7), at: now.advanced(by: .seconds(-60)), cost: "0.25")
            event.modelGroup = "gpt\u{1B}[31m"
            _ = try await writer.write(
                [event, .sample(2, by: .user(7), at: now.advanced(by: .seconds(-60)))].map { IngestItem(.success($0)) },
                lockedUsers: .quarantine)
            _ = try await RollupPass(pool: database.pool(as: .worker), now: { now }).run()
            _ = try await database.pool(as: .webhook).withConnection { try QuotaCounters.addDeltas($0, now: now) }
            let id = try await database.number("SELECT api_log_id FROM metering.events WHERE cost = 0.25")

            let wrong = try await codexflow(["event", "withdraw"], on: database)
            #expect(wrong.exitCode == 64 && wrong.output.contains("--log-id or by --event-key"))
            let dry = try await codexflow(["event", "withdraw", "--log-id", "\(id)", "--dry-run"], on: database)
            #expect(
                dry.exitCode == 0 && dry.output.hasPrefix("would withdraw: \(event.key) (log \(id) of user 7, "),
                "\(dry)")
            #expect(!dry.output.contains("\u{1B}"))
            #expect(try await database.number("SELECT count(*) FROM api_logs") == 2)
            #expect(try await database.number("SELECT count(*) FROM metering.withdrawn_events") == 0)
            let done = try await codexflow(
                ["event", "withdraw", "--event-key", "\(event.key)", "--reason", "a test", "--json"], on: database)
            let answer = try JSONSerialization.jsonObject(with: Data(done.output.utf8)) as? [String: Any]
            #expect(answer?["log_id"] as? Int == id && answer?["was_rolled_up"] as? Bool == true, "\(done)")
            #expect(
                try await database.text(
                    "SELECT used_tokens || ' ' || used_requests FROM rate_limits WHERE period = 'monthly'") == "150 1")
            let again = try await codexflow(["event", "withdraw", "--log-id", "\(id)"], on: database)
            #expect(again.exitCode == 1 && again.output.contains("was withdrawn at"), "\(again)")
            let report = try await database.pool(as: .worker).withConnection {
                try RollupVerification.verify(RollupRange(), $0)
            }
            #expect(report.count == 0)
        }
    }

    /// Also where no service runs that would have noticed it.
    @Test func anEventIsWithdrawnAfterTheIDsBeganAgain() async throws {
        try await withTestDatabase { database in
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password, api_key)
                VALUES (7, 'Ada', 'ada@example.com', 'x', 'cf_ada')
                """)
            let now = Timestamp.now
            let writer = EventWriter(pool: database.pool(as: .webhook), now: { now })
            let event = UsageEvent.sample(1, by: .user(7), at: now.advanced(by: .seconds(-60)))
            _ = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
            _ = try await RollupPass(pool: database.pool(as: .worker), now: { now }).run()
            try await database.execute("TRUNCATE api_logs RESTART IDENTITY")
            let withdraw = ["event", "withdraw", "--event-key", "\(event.key)"]
            let dry = try await codexflow(withdraw + ["--dry-run"], on: database)
            #expect(dry.exitCode == 0 && dry.output.hasPrefix("would withdraw: \(event.key)"), "\(dry)")
            let done = try await codexflow(withdraw, on: database)
            #expect(done.exitCode == 0 && done.output.hasPrefix("withdrawn: \(event.key)"), "\(done)")
            let report = try await database.pool(as: .worker).withConnection {
                try RollupVerification.verify(RollupRange(), $0)
            }
            #expect(report.count == 0)
            #expect(try await database.number("SELECT count(*) FROM metering.events") == 0)
        }
    }

    @Test func aCreatedUserCanLogInToLaravel() async throws {
        try await withTestDatabase { database in
            let create = ["user", "create", "--name", "Ada", "--email", "ada@example.com", "--plan", "pro", "--json"]
            let made = try await codexflow(create, on: database)
            #expect(made.exitCode == 0)
            let answer = try JSONSerialization.jsonObject(with: Data(made.output.utf8)) as? [String: Any]
            let key = try #require(answer?["api_key"] as? String)
            #expect(key.wholeMatch(of: /cf_[0-9a-f]{64}/) != nil)
            let (stored, password, plan) = try await database.pool.withConnection { connection in
                try connection.query("SELECT api_key, password, plan FROM users")[0]
                    .decode(String.self, String.self, String.self)
            }
            #expect(stored == key)
            #expect(password.hasPrefix("$2y$12$") && password.utf8.count == 60)
            #expect(plan == "pro")

            let twice = try await codexflow(create, on: database)
            #expect(twice.exitCode == 1)
            #expect(twice.output == "codexflow: A user with this e-mail exists.\n")
            let list = try await codexflow(["user", "list"], on: database)
            #expect(list.output.contains("ada@example.com"))
            #expect(!list.output.contains(key))

            let rotated = try await codexflow(["user", "rotate-key", "--email", "ada@example.com"], on: database)
            #expect(rotated.exitCode == 0)
            #expect(!rotated.output.contains(key))
            let history = try await database.pool.withConnection { connection in
                try connection.query("SELECT count(*), count(valid_to) FROM metering.api_keys")[0]
                    .decode(Int.self, Int.self)
            }
            #expect(history == (2, 1))
        }
    }

    @Test func aUsersOwnLimitsAreSet() async throws {
        try await withTestDatabase { database in
            _ = try await codexflow(["user", "create", "--name", "Ada", "--email", "ada@example.com"], on: database)
            let limit = ["user", "limit", "--email", "ada@example.com", "--period", "daily"]
            let limits: Query = "SELECT concat_ws(' ', period, requests, tokens, budget) FROM metering.user_limits"
            #expect(try await codexflow(limit + ["--requests", "50"], on: database).exitCode == 0)
            #expect(try await codexflow(limit + ["--budget", "1.50"], on: database).exitCode == 0)
            #expect(try await database.text(limits) == "daily 50 1.500000000000")
            #expect(try await codexflow(limit + ["--requests", "plan", "--tokens", "7"], on: database).exitCode == 0)
            #expect(try await database.text(limits) == "daily 7 1.500000000000")
            for wrong in [[], ["--budget", "-1"], ["--tokens", "many"]] {
                #expect(try await codexflow(limit + wrong, on: database).exitCode == 64)
            }

            let models = ["user", "models", "--email", "ada@example.com"]
            #expect(try await codexflow(models + ["gpt-4", "o3"], on: database).exitCode == 0)
            #expect(try await database.text("SELECT models::text FROM metering.user_models") == "{gpt-4,o3}")
            #expect(try await codexflow(models + ["--all"], on: database).exitCode == 0)
            #expect(try await database.number("SELECT count(*) FROM metering.user_models") == 0)
            let nobody = try await codexflow(["user", "models", "--email", "b@c.d", "--all"], on: database)
            #expect(nobody.output == "codexflow: No user has this e-mail.\n")
        }
    }

    @Test func anAddressIsVerifiedAndRecordedInTheAuditLog() async throws {
        try await withTestDatabase { database in
            _ = try await codexflow(["user", "create", "--name", "Ada", "--email", "ada@example.com"], on: database)
            try await database.execute("INSERT INTO metering.unverified_registrations SELECT id, now() FROM users")
            let verify = ["user", "verify", "--email", "ada@example.com"]
            let done = try await codexflow(verify, on: database)
            #expect(done.output == "verified; LiteLLM knows within seconds\n")
            #expect(try await codexflow(verify, on: database).output == "was verified already\n")
            #expect(try await database.number("SELECT count(email_verified_at) FROM users") == 1)
            let audit: Query = """
                SELECT string_agg(concat_ws(' ', action, subject, subject_id, actor_id, address,
                                            before -> 'email_verified_at' = 'null',
                                            after -> 'email_verified_at' <> 'null'), ',')
                FROM metering.audit_log
                """
            let user = try await database.number("SELECT id FROM users")
            #expect(try await database.text(audit) == "user.verify user \(user) 0 codexflow t t")
            let nobody = try await codexflow(["user", "verify", "--email", "b@c.d"], on: database)
            #expect(nobody.output == "codexflow: No user has this e-mail.\n")
        }
    }

    @Test func noNameControlsTheTerminal() async throws {
        try await withTestDatabase { database in
            let hostile = "a\u{1B}[31m\u{202E}b\t\u{2066}\u{9B}c\n9\tadmin@example.com"
            let email = "\(hostile)@example.com"
            _ = try await database.pool.withConnection { connection in
                try connection.execute(
                    """
                    INSERT INTO users (name, email, password, plan) VALUES (\(hostile), \(email), 'x', 'starter')
                    """)
            }
            let steers = { (text: String) in
                text.unicodeScalars.contains { scalar in
                    let category = scalar.properties.generalCategory
                    return scalar != "\n" && scalar != "\t" && (category == .control || category == .format)
                }
            }
            let shown = #"a\u{1b}[31m\u{202e}b\t\u{2066}\u{9b}c\n9\tadmin@example.com@example.com"#
            let list = try await codexflow(["user", "list"], on: database)
            #expect(!steers(list.output) && list.output.contains(shown), "\(list.output)")
            #expect(list.output.split(separator: "\n").count == 1)
            let text = try await codexflow(["user", "rotate-key", "--email", email], on: database)
            #expect(!steers(text.output) && text.output.contains("email: \(shown)\n"))
            let json = try await codexflow(["user", "rotate-key", "--email", email, "--json"], on: database)
            #expect(!steers(json.output))
            let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
            #expect(object?["email"] as? String == email)
        }
    }

    @Test func litellmIsCheckedFromOutside() async throws {
        func check(_ answer: String) async throws -> (exitCode: Int32, output: String) {
            let proxy = try CannedServer(answer)
            defer { proxy.stop() }
            let process = try ServiceProcess.start(
                product: "codexflow", arguments: ["litellm", "check"],
                environment: ["LITELLM_PROXY_URL": "http://127.0.0.1:\(proxy.port)"])
            return (try await process.waitForExit(), process.output)
        }
        let open = try await check(CannedServer.http("200 OK", "\"I'm alive!\""))
        #expect(open.exitCode == 1)
        #expect(open.output.contains("accepts any key"))
        #expect(try await check(CannedServer.http("500 Internal Server Error", "")).output.contains("answers 500"))
        let nowhere = try ServiceProcess.start(product: "codexflow", arguments: ["litellm", "check"], environment: [:])
        #expect(try await nowhere.waitForExit() == 64)

        let key = "4f1c9e07b2a8d6350f7e41c98b2d60a3"
        let config = try ServiceProcess.start(
            product: "codexflow", arguments: ["litellm", "config"],
            environment: ["WEBHOOK_HOST": "0.0.0.0", "WEBHOOK_PORT": "9000", "LITELLM_WEBHOOK_KEY": key])
        #expect(try await config.waitForExit() == 0)
        #expect(config.output.contains("CODEXFLOW_URL=http://webhook-api:9000\n"))
        #expect(config.output.contains("custom_auth: codexflow.authenticate"))
        #expect(!config.output.contains(key))
        // To standard error, so that what is redirected into files stays as it is.
        let shared = try ServiceProcess.start(
            product: "codexflow", arguments: ["litellm", "config"],
            environment: ["LITELLM_WEBHOOK_KEY": key, "LITELLM_MASTER_KEY": "sk-\(key)"])
        #expect(try await shared.waitForExit() == 0)
        #expect(shared.output.contains("LITELLM_MASTER_KEY can be made from LITELLM_WEBHOOK_KEY"))
        #expect(!shared.output.contains(key))
    }

    @Test func rolesWithoutAPasswordArePrinted() async throws {
        try await withTestDatabase { database in
            let printed = try await codexflow(["grants", "--role-prefix", "other"], on: database)
            #expect(printed.exitCode == 0)
            #expect(printed.output == GrantScript(prefix: "other").text(database: database.name))
            #expect(!printed.output.contains("PASSWORD "))
            let refused = try await codexflow(["grants", "--role-prefix", "a; DROP"], on: database)
            #expect(refused.exitCode == 64)
            // A missing right is reported with the command that gives it.
            try await database.execute("REVOKE SELECT ON users FROM codexflow_operator")
            try await database.execute("REVOKE SELECT (email) ON users FROM codexflow_operator")
            let list = try await codexflow(["user", "list"], on: database)
            #expect(list.exitCode == 1)
            #expect(list.output.contains("'codexflow grants'"))
        }
    }

    @Test func aFailureIsReportedInOneLine() async throws {
        try await withTestDatabase { database in
            let plan = try await codexflow(
                ["user", "create", "--name", "A", "--email", "a@b.c", "--plan", "gold"], on: database)
            #expect(plan.exitCode == 1)
            #expect(plan.output == "codexflow: The plan is one of starter, pro, agency.\n")
            let nobody = try await codexflow(["user", "rotate-key", "--email", "nobody@b.c"], on: database)
            #expect(nobody.output == "codexflow: No user has this e-mail.\n")
        }
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: ["schema"],
            environment: ["DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nothing"])
        #expect(try await process.waitForExit() == 1)
        #expect(process.output.split(separator: "\n").count == 1)
        #expect(!process.output.contains("secret"))
    }

    @Test func aForeignDatabaseIsAdoptedOnlyWithDiscardHistory() async throws {
        try await withTestDatabase { database in
            #expect(try await codexflow(["adopt"], on: database).output == "nothing had changed\n")
            let needless = try await codexflow(["adopt", "--discard-history"], on: database)
            #expect(needless.exitCode == 1)
            #expect(needless.output.contains("there is no history to discard"))
            _ = try await database.pool.withConnection {
                try $0.execute("UPDATE metering.installation SET users_table = 1, highest_user_id = 9")
            }
            let refused = try await codexflow(["adopt"], on: database)
            #expect(refused.exitCode == 1)
            #expect(refused.output.contains("--discard-history"))
            let adopted = try await codexflow(["adopt", "--discard-history"], on: database)
            #expect(adopted.output == "adopted; history discarded\n")
        }
    }

    @Test func aNewKeyIsPrintedEvenIfTheKeySyncFails() async throws {
        try await withTestDatabase { database in
            _ = try await database.pool.withConnection {
                try $0.execute("ALTER TABLE metering.api_keys ADD CHECK (valid_to IS NOT NULL)")
            }
            let create = ["user", "create", "--name", "Ada", "--email", "ada@example.com", "--json"]
            let made = try await codexflow(create, on: database)
            #expect(made.exitCode == 0)
            let answer = try JSONSerialization.jsonObject(with: Data(made.output.utf8)) as? [String: Any]
            let key = try #require(answer?["api_key"] as? String)
            let stored = try await database.pool.withConnection { connection in
                try connection.query("SELECT api_key FROM users")[0].decode(0, as: String.self)
            }
            #expect(stored == key)
        }
    }
}
