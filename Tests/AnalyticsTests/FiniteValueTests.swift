import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Values of other writers that are no numbers or no times: they change no other figure, and what they broke is
/// repaired.
@Suite(.timeLimit(.minutes(30))) struct FiniteValueTests {
    static let columns = ["numeric(10, 6)", "numeric", "double precision", "real"]

    /// Costs that are none, as a column of `type` can hold them.
    static func badCosts(_ type: String) -> [String] {
        switch type {
        case "numeric(10, 6)": ["NaN"]
        case "real": ["NaN", "Infinity", "-Infinity", "1e38", "-1e38"]
        case "double precision": ["NaN", "Infinity", "-Infinity", "1e300", "-1e300"]
        default: ["NaN", "Infinity", "-Infinity", "1e300", "-1e5000"]
        }
    }

    /// Rollups of an older version can have the scale of a column that somebody changed.
    @Test func moneyIsReadAtTwelveDecimals() {
        for (text, expected) in [
            ("0.1234567890125", "0.123456789013"), ("-1.0000000000004", "-1"), ("12.5", "12.5"),
            ("0.000000000001", "0.000000000001"), ("99999999.999999999999000", "99999999.999999999999"),
        ] {
            let money = Money(postgresText: Array(text.utf8)[...])
            #expect(money?.description == expected, "\(text)")
        }
        #expect(Money(postgresText: Array("NaN".utf8)[...]) == nil)
    }

    /// A statement of a report that was prepared before the column changed no longer fits it.
    @Test func aChangedColumnTypeFailsNoReport() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.pool.withConnection { connection in
                func read() throws -> [LogRow] {
                    try ReportSnapshot.take(connection) { try RecentCalls.list(of: user, on: $0.connection) }
                }
                #expect(try read().isEmpty)
                for type in ["text", "varchar(300)"] {
                    for column in ["status", "model", "error_message"] {
                        try connection.executeScript("ALTER TABLE public.api_logs ALTER \(column) TYPE \(type)")
                    }
                    #expect(try read().isEmpty)
                }
            }
        }
    }

    /// Laravel's columns may have lost NOT NULL. A count that is missing is 0, and a duration that is missing is none.
    @Test func aMissingCountIsZero() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                ALTER TABLE api_logs ALTER input_tokens DROP NOT NULL, ALTER output_tokens DROP NOT NULL,
                    ALTER response_time_ms DROP NOT NULL
                """)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, total_cost, status, created_at, updated_at)
                VALUES (\(user), 'gpt-4', 0.5, 'success', '2026-11-23 11:59:00', '2026-11-23 11:59:00')
                """)
            for state in ["pending", "rolled up"] {
                if state != "pending" { try await bench.rollUp() }
                let sums = try await sums(bench, user)
                #expect(sums.requests == 1 && sums.tokens == 0 && sums.duration == 0, "\(state): \(sums)")
            }
            let rows = try await bench.report { try RecentCalls.list(of: user, on: $0.connection) }
            #expect(rows.map(\.inputTokens) == [0] && rows.map(\.outputTokens) == [0] && rows.map(\.duration) == [0])
        }
    }

    private func repair(_ bench: StorageBench, _ range: RollupRange = RollupRange(from: 20_700, to: 20_800))
        async throws
        -> Int
    {
        let outcome = try await RollupRebuild(pool: bench.worker).repair(range) { _, _ in }
        return outcome.cells + outcome.counters
    }

    private func sums(_ bench: StorageBench, _ user: Int64?) async throws -> UsageTotals {
        try await bench.report {
            try UsageSummary.read(user.map(UsageScope.user) ?? .allUsers, .allTime, on: $0).current.sums
        }
    }

    @Test(arguments: columns) func aCostThatIsNoneIsUnpriced(type: String) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("ALTER TABLE api_logs ALTER total_cost TYPE \(unsafeSQL: type)")
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.writeAsLaravel(user, cost: "0.25")
            try await bench.execute("UPDATE metering.user_limits SET budget = 1")
            let bad = Self.badCosts(type)
            for cost in bad {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                        status,
                                          created_at, updated_at)
                    VALUES (\(user), 'gpt-4', 1, 1, \(unsafeSQL: "'\(cost)'")::\(unsafeSQL: type), 1, 'success',
                            '2026-11-23 11:59:00', '2026-11-23 11:59:00')
                    """)
            }
            for state in ["tail", "rolled up", "made again"] {
                if state != "tail" { try await bench.rollUp() }
                try await bench.updateCounters()
                if state == "made again" { #expect(try await repair(bench) == 0, "\(state)") }
                for scope in [user, nil] {
                    let sums = try await sums(bench, scope)
                    #expect(sums.requests == Int64(2 + bad.count) && sums.unpriced == Int64(bad.count), "\(state)")
                    #expect(sums.cost == Money("0.2515") && sums.laravelCost == Money("0.2515"), "\(state)")
                }
                if state != "tail" { #expect(try await bench.verify().findings == [], "\(state)") }
            }
            #expect(
                try await bench.text(
                    "SELECT trim_scale(sum(cost))::text FROM metering.quota_usage WHERE period = 'daily'") == "0.2515")
            let entries = try await bench.admin.withConnection {
                try LogEntries.read(try LogList.read(LogFilter(userID: user), by: .cost, limit: 100, $0).ids, $0)
            }
            try #require(entries.count == 2 + bad.count)
            #expect(entries.value(0, "ledger_cost").flatMap { Money($0) } == Money("0.25"))
            #expect(entries.implausibleValues(0) == [])
            let unpriced = (0..<entries.count).filter { entries.value($0, "ledger_cost") == nil }
            #expect(unpriced.count == bad.count)
            #expect(unpriced.allSatisfy { entries.implausibleValues($0) == [.implausibleCost] })
        }
    }

    @Test func absurdTimesAndCountsAreSurvived() async throws {
        try await StorageBench.with { bench in
            let (user, other) = (try await bench.makeUser(), try await bench.makeUser())
            try await bench.writeAsLaravel(other)
            try await bench.execute(
                """
                ALTER TABLE api_logs ALTER input_tokens TYPE bigint, ALTER output_tokens TYPE numeric,
                    ALTER response_time_ms TYPE double precision
                """)
            let times = [
                "infinity", "-infinity", "294276-01-01", "4713-01-01 BC", "9999-12-31", "1969-12-31 23:59:59",
                "2300-01-01",
            ]
            for time in times.map(Optional.some) + [nil] {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                        status,
                                          created_at, updated_at)
                    SELECT \(user), 'gpt-4', i, j, 1, k, 'success', \(time as String?)::timestamp,
                        \(time as String?)::timestamp
                    FROM (VALUES (9223372036854775807, 'NaN'::numeric, 'NaN'::float8),
                           (-9223372036854775808, -1e300, 1e300),
                                 (-9223372036854775808, '-Infinity', '-Infinity'), (9223372036854775807, 1e30, -1e30),
                                 (-5, -5, -5.5)) AS v (i, j, k)
                    """)
            }
            let before = try await sums(bench, other)
            for state in ["tail", "rolled up"] {
                if state == "rolled up" { try await bench.rollUp() }
                try await bench.updateCounters()
                #expect(try await sums(bench, user).requests == 40, "\(state)")
                #expect(try await sums(bench, other) == before, "\(state)")
                _ = try await sums(bench, nil)
            }
            #expect(try await bench.verify().findings == [])
            try await bench.execute(
                "UPDATE metering.rollup_15m SET requests = requests + 1 WHERE user_id = \(user)")
            #expect(try await repair(bench, RollupRange(from: 0, to: 130_000)) > 0)
            #expect(try await bench.verify().findings == [])
            let rows = try await bench.admin.withConnection { try RecentCalls.list(of: user, on: $0) }
            let entries = try await bench.admin.withConnection { try LogEntries.read(rows.map(\.id), $0) }
            #expect(rows.count == 40 && entries.count == 40)
            #expect((0..<40).count { entries.implausibleValues($0) == [.implausibleTime] } == 35)
            _ = try await bench.worker.withConnection { connection in
                try RollupStatus.read(now: StorageBench.noon, on: connection).lines
            }
        }
    }

    /// Sums and counters that an older version made NaN.
    private func poison(_ bench: StorageBench) async throws {
        try await bench.execute("UPDATE metering.quota_usage SET cost = 'NaN'")
        try await bench.execute("UPDATE metering.rollup_15m SET cost = 'NaN', ledger_cost = 'Infinity'")
        try await bench.execute("UPDATE metering.rollup_day SET cost = 'NaN', ledger_cost = '-Infinity'")
        try await bench.execute("UPDATE metering.rollup_span SET cost = 'NaN'")
        try await bench.execute(
            """
            INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
            SELECT ARRAY[min(id)], ARRAY['2026-11-23'::date], '{0}', '{0}', '{NaN}' FROM users
            """)
    }

    private func poisoned(_ body: @escaping @Sendable (StorageBench, Int64) async throws -> Void) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.makeUser()
            _ = try await bench.write(
                (1...3).map { .sample($0, by: .user(user), at: StorageBench.noon.advanced(by: .seconds(-90_000))) })
            try await bench.writeAsLaravel(user, at: "2026-11-22 11:00:00", cost: "0.25")
            try await bench.rollUp()
            _ = try await bench.write([.sample(9, by: .user(user), at: StorageBench.noon)])
            bench.clock.advance(by: .seconds(7200))
            try await bench.rollUp()
            try await bench.updateCounters()
            #expect(try await bench.verify().findings == [])
            try await poison(bench)
            try await body(bench, user)
        }
    }

    @Test func rebuildSetsTheTruth() async throws {
        try await poisoned { bench, user in
            // More is added while it is so.
            _ = try await bench.write([.sample(10, by: .user(user), at: StorageBench.noon)])
            #expect(try await sums(bench, user).requests == 6)
            _ = try await bench.report {
                try UsageBreakdown.read(.allUsers, .allTime, by: .user, limit: 5, rankedBy: .cost, on: $0)
            }
            let levels = Set(try await bench.verify().findings.map(\.level))
            #expect(levels.isSuperset(of: ["quarters", "all_users", "days", "daily", "monthly"]), "\(levels)")
            #expect(try await repair(bench) > 0)
            for state in ["deltas wait", "deltas are rolled up"] {
                #expect(try await bench.verify().findings == [], "\(state)")
                try await bench.updateCounters()
            }
            #expect(try await sums(bench, user).cost == Money("0.2575"))
            #expect(
                try await bench.text(
                    """
                    SELECT string_agg(trim_scale(cost)::text, ' ' ORDER BY period, window_start)
                    FROM metering.quota_usage
                    """
                ) == "0.2545 0.003 0.2575")
            #expect(try await bench.number("SELECT count(*) FROM metering.rollup_span WHERE cost = 'NaN'") == 0)
        }
    }

    @Test func rebuildClearsADeletedUsersSums() async throws {
        try await poisoned { bench, user in
            try await bench.execute("DELETE FROM users WHERE id = \(user)")
            _ = try await repair(bench)
            let sums = try await sums(bench, nil)
            #expect(sums.requests == 5 && sums.unpriced == 5 && sums.pricedCost == .zero)
            #expect(try await bench.number("SELECT count(*) FROM metering.rollup_15m WHERE cost = 'NaN'") == 0)
        }
    }

    @Test func theMigrationHeals() async throws {
        try await poisoned { bench, user in
            let file = try String(
                contentsOf: Checkout.root.appending(path: "migrations/0019_finite_values.sql"), encoding: .utf8)
            let begin = try #require(file.range(of: "-- A worker of an older version waits"))
            let healing = String(file[begin.lowerBound...])
            try await bench.owner.transaction {
                try $0.executeScript("SET LOCAL search_path = pg_catalog; \(healing)")
            }
            try await bench.rollUp()
            #expect(try await bench.verify().findings == [])
            try await bench.updateCounters()
            #expect(try await bench.verify().findings == [])
            #expect(try await sums(bench, user).cost == Money("0.256"))
        }
    }
}
