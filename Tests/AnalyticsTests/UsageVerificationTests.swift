import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// What `verify` finds and `rebuild` repairs.
@Suite(.timeLimit(.minutes(30))) struct UsageVerificationTests {
    /// 2026-11-23, as days since 1970.
    private static let today = 20_780
    private static let range = RollupRange(from: today - 1, to: today + 1)

    /// Two users with events, Laravel's rows and late rows, rolled up, with days written.
    private static func with(
        _ body: @escaping @Sendable (StorageBench, _ ada: Int64, _ bob: Int64) async throws -> Void
    )
        async throws
    {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(plan: "pro"), try await bench.makeUser())
            for round: UInt64 in 0..<4 {
                _ = try await bench.write(
                    [ada, bob].map { user in
                        .sample(
                            round * 10 + UInt64(user), by: .user(user),
                            at: StorageBench.noon.advanced(by: .seconds(-1200 * Int64(round))))
                    })
                try await bench.writeAsLaravel(ada, at: "2026-11-23 1\(round % 2):30:00")
                try await bench.rollUp()
                bench.clock.advance(by: .seconds(1800))
            }
            #expect(try await bench.verify().count == 0)
            try await body(bench, ada, bob)
        }
    }

    private func findings(_ bench: StorageBench, _ range: RollupRange = RollupRange()) async throws -> [String] {
        try await bench.verify(range).findings.map { "\($0.level) \($0.user) \($0.bucket) \($0.difference)" }
    }

    /// Repairs, and returns how many cells and counters.
    @discardableResult
    private func repair(_ bench: StorageBench, _ range: RollupRange = range) async throws -> [Int] {
        let outcome = try await RollupRebuild(pool: bench.worker).repair(range) { _, _ in }
        return [outcome.cells, outcome.counters]
    }

    @Test func aWrongCell() async throws {
        try await Self.with { bench, ada, bob in
            try await bench.execute(
                """
                UPDATE metering.rollup_15m SET requests = requests + 1, cost = cost - 0.000000000001
                WHERE user_id = \(bob) AND quarter = metering.quarter_of('2026-11-23T11:00Z')
                """)
            #expect(
                try await findings(bench) == [
                    "quarters \(bob) 2026-11-23T11:00:00Z requests 2, should be 1; "
                        + "cost 0.001499999999, should be 0.0015",
                    "all_users 0 2026-11-23T11:00:00Z requests 1, should be 2; "
                        + "cost 0.0015, should be 0.001499999999",
                    "days \(bob) 2026-11-23T00:00:00Z requests 3, should be 4; "
                        + "cost 0.0045, should be 0.004499999999",
                ])
            #expect(try await findings(bench, RollupRange(user: ada)) == [])
            #expect(try await findings(bench, RollupRange(to: Self.today)) == [])
            #expect(try await repair(bench) == [1, 0])
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aMissingCellAndOneTooMany() async throws {
        try await Self.with { bench, ada, bob in
            try await bench.execute("DELETE FROM metering.rollup_15m WHERE user_id = \(ada)")
            try await bench.execute("DELETE FROM metering.rollup_day WHERE user_id = \(bob)")
            try await bench.execute(
                """
                INSERT INTO metering.rollup_15m
                SELECT user_id, quarter - 50, dimension, requests, unpriced, input_tokens, output_tokens, cached_tokens,
                       reasoning_tokens, duration_ms, cost, ledger_cost, histogram
                FROM metering.rollup_15m WHERE user_id = 0
                """)
            #expect(try await bench.verify().count > 3)
            #expect(try await repair(bench)[0] > 3)
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aWrongRollupOfAllUsersAndWrongDays() async throws {
        try await Self.with { bench, ada, _ in
            let dimension = try await bench.number(
                "SELECT dimension::bigint FROM metering.rollup_dimension WHERE plan = 'pro'")
            try await bench.execute(
                """
                UPDATE metering.rollup_15m SET output_tokens = output_tokens - 1
                WHERE user_id = 0 AND dimension = \(dimension) AND quarter = metering.quarter_of('2026-11-23T11:00Z')
                """)
            try await bench.execute(
                """
                UPDATE metering.rollup_day SET unpriced = 7 WHERE user_id IN (0, \(ada)) AND dimension = \(dimension)
                """)
            #expect(
                try await findings(bench) == [
                    "all_users 0 2026-11-23T11:00:00Z output_tokens 49, should be 50",
                    "days 0 2026-11-23T00:00:00Z unpriced 7, should be 0; output_tokens 150, should be 149",
                    "days \(ada) 2026-11-23T00:00:00Z unpriced 7, should be 0",
                ])
            #expect(try await repair(bench) == [3, 0])
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aWrongHistogram() async throws {
        try await Self.with { bench, _, bob in
            try await bench.execute("UPDATE metering.rollup_day SET histogram = '{}' WHERE user_id = \(bob)")
            #expect(try await findings(bench) == ["days \(bob) 2026-11-23T00:00:00Z histogram"])
            #expect(try await repair(bench)[0] == 1)
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aWrongCounter() async throws {
        try await Self.with { bench, ada, bob in
            try await bench.updateCounters()
            #expect(try await bench.verify().count == 0)
            try await bench.execute(
                "UPDATE metering.quota_usage SET tokens = tokens - 1 WHERE user_id = \(ada) AND period = 'daily'")
            try await bench.execute("DELETE FROM metering.quota_usage WHERE user_id = \(bob) AND period = 'monthly'")
            // What is not rolled up into the counters yet is no fault of theirs.
            _ = try await bench.write([.sample(99, by: .user(ada), at: StorageBench.noon)])
            #expect(
                try await findings(bench) == [
                    "daily \(ada) 2026-11-23T00:00:00Z tokens 1349, should be 1350",
                    "monthly \(bob) 2026-11-01T00:00:00Z tokens 0, should be 600; requests 0, should be 4; "
                        + "cost 0, should be 0.006",
                ])
            #expect(try await repair(bench) == [0, 2])
            #expect(try await bench.verify().count == 0)
            try await bench.updateCounters()
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aWrongCostOfABudget() async throws {
        try await Self.with { bench, ada, bob in
            // Of Ada's four events and of Laravel's four rows; of Bob, what waits in a delta.
            try await bench.updateCounters()
            let spent: Query = "SELECT cost::text FROM metering.quota_usage WHERE period = 'daily' AND user_id = \(ada)"
            let before = try await bench.text(spent)
            try await bench.execute(
                """
                UPDATE metering.quota_usage SET cost = cost + 0.000000000001
                WHERE user_id = \(ada) AND period = 'daily' OR user_id = \(bob) AND period = 'monthly'
                """)
            _ = try await bench.write([.sample(99, by: .user(bob), at: StorageBench.noon)])
            #expect(
                try await findings(bench) == [
                    "daily \(ada) 2026-11-23T00:00:00Z cost 0.012000000001, should be 0.012",
                    "monthly \(bob) 2026-11-01T00:00:00Z cost 0.007500000001, should be 0.0075",
                ])
            #expect(try await repair(bench) == [0, 2])
            #expect(try await bench.verify().count == 0)
            try await bench.updateCounters()
            #expect(try await bench.verify().count == 0)
            #expect(try await bench.text(spent) == before)
            // Before the month in which budgets were first counted nothing is known of them.
            try await bench.execute(
                "UPDATE metering.schema_migrations SET applied_at = '2026-12-01' WHERE version = 11")
            try await bench.execute("UPDATE metering.quota_usage SET cost = 0")
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aChangedRawRow() async throws {
        try await Self.with { bench, ada, _ in
            try await bench.execute(
                """
                UPDATE api_logs SET input_tokens = 101, model = 'new' WHERE id = (
                    SELECT min(l.id) FROM api_logs l
                    WHERE NOT EXISTS (SELECT FROM metering.events WHERE api_log_id = l.id))
                """)
            let found = try await findings(bench)
            #expect(found.contains { $0.hasPrefix("quarters \(ada) 2026-11-23T10:30:00Z requests 2, should be 1; ") })
            #expect(found.contains { $0.hasPrefix("daily \(ada) 2026-11-23T00:00:00Z tokens 1200, should be 1201") })
            #expect(try await repair(bench)[1] == 2)
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func aDeletedUsersHistoryStaysAndIsProved() async throws {
        try await Self.with { bench, ada, _ in
            let before = try await bench.usage(of: ada)
            try await bench.execute("DELETE FROM users WHERE id = \(ada)")
            #expect(try await bench.verify().count == 0)
            #expect(try await repair(bench) == [0, 0])
            #expect(try await bench.usage(of: ada) == before)
            // But not beyond what the sums themselves say.
            try await bench.execute("UPDATE metering.rollup_day SET requests = 0 WHERE user_id = \(ada)")
            #expect(
                try await findings(bench).map { $0.split(separator: " ")[0] } == ["days", "days", "spans"])
        }
    }

    @Test func sealedHistoryIsNotRebuilt() async throws {
        try await Self.with { bench, ada, _ in
            let before = try await bench.usage(of: ada)
            let deleted = try await LogRetention(pool: bench.owner).run(
                days: 1, now: StorageBench.noon.advanced(by: .seconds(86_400 * 3))
            ) { _, _ in }
            #expect(deleted == 12)
            #expect(try await bench.usage(of: ada) == before)
            #expect(try await bench.verify().count == 0)
            let error = await #expect(throws: RollupRebuild.Sealed.self) { try await repair(bench) }
            #expect(error?.before == "2026-11-25T00:00:00Z")
            #expect(try await repair(bench, RollupRange(from: Self.today + 2, to: Self.today + 3))[0] == 0)
            #expect(try await bench.usage(of: ada) == before)
        }
    }
}
