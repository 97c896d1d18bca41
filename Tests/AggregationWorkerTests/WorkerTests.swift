import Postgres
import Storage
import TestSupport
import Testing

/// `aggregation-worker` as a process.
@Suite(.timeLimit(.minutes(30))) struct WorkerTests {
    private func worker(
        _ arguments: [String], on database: TestDatabase, _ environment: [String: String] = [:]
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try start(arguments, on: database, environment)
        let exitCode = try await process.waitForExit(within: .seconds(60))
        return (exitCode, process.output)
    }

    private func start(
        _ arguments: [String], on database: TestDatabase, _ environment: [String: String] = [:]
    ) throws -> ServiceProcess {
        try ServiceProcess.start(
            product: "aggregation-worker", arguments: arguments,
            environment: [
                "DATABASE_URL": database.url(as: .worker), "MIGRATE_DATABASE_URL": database.url(as: .owner),
            ].merging(environment) { _, given in given })
    }

    private func write(_ rows: Int, on database: TestDatabase) async throws {
        try await database.execute(
            """
            INSERT INTO users (id, name, email, password) VALUES (1, 'Ada', 'ada@example.com', 'x')
            ON CONFLICT DO NOTHING
            """)
        try await database.execute(
            """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at,
                                  updated_at)
            SELECT 1, 'gpt-4', 1, 1, 0.001, 1, '2026-11-01'::timestamp + g * interval '1 minute', now()
            FROM generate_series(1, \(rows)) g
            """)
    }

    private let sessions: Query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'aggregation-worker'
        """
    private let rolledUp: Query = "SELECT coalesce(sum(requests), 0) FROM metering.rollup_15m WHERE user_id = 1"

    @Test func onceRollsUpAndReportsIt() async throws {
        try await withTestDatabase { database in
            try await write(100, on: database)
            let before = try await worker(["status"], on: database)
            #expect(before.output.contains("pending logs        100"))
            #expect(try await worker(["status", "--max-lag", "1h"], on: database).exitCode == 0)
            try await database.execute("UPDATE api_logs SET updated_at = updated_at - interval '2 hours'")
            #expect(try await worker(["status", "--max-lag", "1h"], on: database).exitCode == 2)
            let once = try await worker(["once"], on: database)
            #expect(once.exitCode == 0)
            #expect(once.output.contains("100 rows rolled up"))
            #expect(try await database.number(rolledUp) == 100)
            #expect(try await worker(["once"], on: database).output.contains("0 rows rolled up"))
            let after = try await worker(["status"], on: database)
            #expect(after.output.contains("pending logs        0"))
            #expect(after.output.contains("100 rows in") == false)
            #expect(try await worker(["status", "--max-lag", "1h"], on: database).exitCode == 0)
        }
    }

    @Test func rowsThatAreHiddenAreNotTakenForMissing() async throws {
        try await withTestDatabase { database in
            try await write(100, on: database)
            try await database.setBadly(.worker)
            #expect(try await worker(["once"], on: database).output.contains("100 rows rolled up"))
            try await write(10, on: database)
            try await database.execute("ALTER TABLE api_logs ENABLE ROW LEVEL SECURITY")
            for command in [["once"], ["verify"], ["rebuild", "--from", "2026-11-01", "--to", "2026-11-02"]] {
                let answer = try await worker(command, on: database)
                #expect(answer.exitCode != 0 && answer.output.contains("Row-level security hides rows"), "\(answer)")
            }
            try await database.execute("ALTER TABLE api_logs DISABLE ROW LEVEL SECURITY")
            #expect(try await database.number(rolledUp) == 100)
            #expect(try await worker(["once"], on: database).output.contains("10 rows rolled up"))
            #expect(try await worker(["verify"], on: database).exitCode == 0)
        }
    }

    @Test func itRunsUntilASignal() async throws {
        try await withTestDatabase { database in
            try await write(10, on: database)
            let process = try start(["run", "--every", "1s"], on: database)
            #expect(try await database.number(rolledUp, becoming: 10, within: .seconds(30)) == 10)
            try await write(5, on: database)
            #expect(try await database.number(rolledUp, becoming: 15, within: .seconds(30)) == 15)
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        }
    }

    @Test func healthAndMetricsAreServedWhereAPortIsSet() async throws {
        try await withTestDatabase { database in
            try await write(10, on: database)
            let process = try start(["run", "--every", "1s"], on: database, ["WORKER_PORT": "0"])
            let port = try await process.waitUntilListening()
            func get(_ path: String) async throws -> String {
                try await Command.run("/usr/bin/curl", ["-sS", "--fail", "http://127.0.0.1:\(port)\(path)"])
            }
            #expect(try await get("/health/live") == #"{"status":"ok"}"#)
            #expect(try await get("/health/ready").contains(#""status":"ok""#))
            // Logs are counted by their window, and the pass at its end.
            try await eventually("the pass is counted") {
                let metrics = try await get("/metrics")
                return metrics.contains("rollup_logs_total 10\n") && metrics.contains("rollup_pass_seconds_count ")
            }
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        }
    }

    @Test func killedAnywhereItGoesOn() async throws {
        try await withTestDatabase { database in
            try await write(200_000, on: database)
            for _ in 0..<3 {
                let process = try start(["once"], on: database)
                // It is killed at another stage of its work each time.
                let goal = try await database.number(rolledUp) + 1
                let end = ContinuousClock.now + .seconds(60)
                while try await database.number(rolledUp) < goal, process.exitCode == nil, ContinuousClock.now < end {}
                process.kill()
                try await process.waitForExit()
                // Its session first ends its statement. Until then it counts as a worker at work.
                #expect(try await database.number(sessions, becoming: 0, within: .seconds(60)) == 0)
            }
            #expect(try await worker(["once"], on: database).exitCode == 0)
            #expect(try await database.number(rolledUp) == 200_000)
            #expect(try await worker(["verify"], on: database).output.contains("all is equal"))
        }
    }

    @Test func itReportsTheTransactionThatItWaitsFor() async throws {
        try await withTestDatabase { database in
            try await write(1, on: database)
            let open = try await OpenTransaction.begin(database.pool) { connection in
                try connection.execute("UPDATE api_logs SET input_tokens = 1")
            }
            let once = try await worker(["once"], on: database)
            #expect(once.exitCode == 0)
            #expect(once.output.contains("waiting for process"))
            #expect(once.output.contains("open since 20"))
            try await open.end()
            #expect(try await worker(["once"], on: database).output.contains("1 rows rolled up"))
        }
    }

    @Test func verifyFindsAndRebuildRepairs() async throws {
        try await withTestDatabase { database in
            try await write(30, on: database)
            _ = try await worker(["once"], on: database)
            try await database.execute(
                "UPDATE metering.rollup_15m SET requests = requests + 7 WHERE user_id = 1 AND quarter % 2 = 0")
            let found = try await worker(["verify", "--user", "1"], on: database)
            #expect(found.exitCode == 2)
            #expect(
                found.output.contains("quarters user 1 2026-11-01T00:00:00Z (gpt-4 success): requests 21, should be 14")
            )
            let json = try await worker(["verify", "--json"], on: database)
            #expect(json.output.contains(#""user_id":1"#))
            let range = ["--from", "2026-11-01", "--to", "2026-11-02"]
            #expect(try await worker(["rebuild", "--dry-run"] + range, on: database).output.contains("should be 14"))
            #expect(try await worker(["rebuild"] + range, on: database).output.contains("cells and"))
            #expect(try await worker(["verify"], on: database).exitCode == 0)
        }
    }

    @Test func pruneDropsOldMonthsOnce() async throws {
        try await withTestDatabase { database in
            let settings = ["METERING_RETENTION_DAYS": "30"]
            let first = try await worker(["prune"], on: database, settings)
            #expect(first.exitCode == 0)
            #expect(first.output.contains("dropped events_"))
            let second = try await worker(["retain", "--api-logs-days", "30"], on: database, settings)
            #expect(second.exitCode == 0)
            #expect(!second.output.contains("dropped events_"))
            #expect(second.output.contains("0 rows of api_logs deleted"))
        }
    }

    @Test func invalidArgumentsAreRefused() async throws {
        try await withTestDatabase(.empty) { database in
            let unmigrated = try await worker(["once"], on: database)
            #expect(unmigrated.exitCode == 1)
            #expect(unmigrated.output.contains("codexflow migrate"))
            let wrong = [
                ["run", "--every", "0s"], ["rebuild", "--from", "2026-02-30", "--to", "2026-03-01"],
                ["verify", "--from", "2026-02-02", "--to", "2026-02-01"], ["retain", "--api-logs-days", "0"],
            ]
            for arguments in wrong {
                let refused = try await worker(arguments, on: database)
                #expect(refused.exitCode == 64, "\(arguments)")
            }
        }
    }
}
