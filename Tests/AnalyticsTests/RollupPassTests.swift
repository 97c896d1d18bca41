import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Rows to sums: nothing missed, nothing twice, and no answer changes when a pass goes by.
@Suite(.timeLimit(.minutes(30))) struct RollupPassTests {
    private static func event(_ id: UInt64, _ user: Int64, _ change: (inout UsageEvent) -> Void = { _ in })
        -> UsageEvent
    {
        var event = UsageEvent.sample(id, by: .user(user), at: StorageBench.noon)
        change(&event)
        return event
    }

    @Test func anAnswerIsTheSameBeforeAndAfterAPass() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(plan: "pro"), try await bench.makeUser())
            _ = try await bench.write(
                [
                    Self.event(1, ada), Self.event(2, ada) { $0.timeToFirstTokenMilliseconds = 310 },
                    Self.event(3, ada) { $0.occurredAt = StorageBench.noon.advanced(by: .seconds(-86_400 * 40)) },
                    Self.event(4, ada) { ($0.status, $0.durationMilliseconds) = (.error, nil) },
                    Self.event(5, bob) { ($0.cachedTokens, $0.reasoningTokens, $0.cost) = (7, 9, nil) },
                    Self.event(6, bob) { $0.cost = DecimalLiteral("0.0000014999999999999998").flatMap(Cost.init) },
                    Self.event(7, bob) { $0.cost = DecimalLiteral("123456.5").flatMap(Cost.init) },
                ])
            try await bench.writeAsLaravel(ada)
            try await bench.writeAsLaravel(bob, at: nil, cost: "-0.5")
            try await bench.writeAsLaravel(bob, at: "infinity", status: "rate_limited")
            let before = [
                try await bench.usage(of: ada), try await bench.usage(of: bob), try await bench.usage(of: 0),
            ]
            let outcome = try await bench.rollUp()
            #expect(outcome.rows == 10)
            #expect(outcome.waitingFor.isEmpty)
            #expect(
                [try await bench.usage(of: ada), try await bench.usage(of: bob), try await bench.usage(of: 0)]
                    == before)
            #expect(
                try await bench.number("SELECT sum(requests) FROM metering.rollup_15m WHERE user_id = 0") == 10)
            #expect(try await bench.rollUp().rows == 0)
            #expect(try await bench.usage(of: ada) == before[0])
        }
    }

    /// A column that somebody let be NULL, such as by `nullOnDelete()`.
    @Test func aLogWithoutAUserCountsForAllUsersAlone() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            try await bench.writeAsLaravel(user)
            try await bench.execute("ALTER TABLE api_logs ALTER user_id DROP NOT NULL")
            try await bench.execute("UPDATE api_logs SET user_id = NULL WHERE id = (SELECT min(id) FROM api_logs)")
            try await bench.rollUp()
            let requests = try await bench.text(
                """
                SELECT string_agg(format('%s: %s', user_id, requests), ', ' ORDER BY user_id)
                FROM (SELECT user_id, sum(requests) AS requests FROM metering.rollup_15m GROUP BY 1) r
                """)
            #expect(requests == "0: 2, \(user): 1")
        }
    }

    @Test func costsAreExactAndAsLaravelRoundsThem() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let literals = ["0.0000014999999999999998", "0.1", "0.2", "123456.5", "0.0000005", "1e-12"]
            _ = try await bench.write(
                literals.enumerated().map { index, literal in
                    Self.event(UInt64(index), user) { $0.cost = DecimalLiteral(literal).flatMap(Cost.init) }
                })
            let laravel = try await bench.text("SELECT sum(total_cost) FROM api_logs")
            for _ in 0..<2 {
                try await bench.rollUp()
                let sums = try await bench.text(
                    """
                    SELECT concat_ws(' ', sum(cost), sum(ledger_cost)) FROM metering.rollup_15m
                    WHERE user_id = \(user)
                    """
                )
                #expect(sums == "123456.800002000001 \(laravel ?? "")")
                // Nobody knows what it cost; to Laravel it is 0.
                _ = try await bench.write([Self.event(100, user) { $0.cost = nil }])
            }
        }
    }

    @Test func lateRowsReachTheirQuarterAndTheirDay() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for index: UInt64 in 0..<6 {
                _ = try await bench.write([
                    Self.event(index, user) {
                        $0.occurredAt = StorageBench.noon.advanced(by: .seconds(-7200 * Int64(index)))
                    }
                ])
                try await bench.rollUp()
                bench.clock.advance(by: .seconds(3600))
            }
            #expect(
                try await bench.number("SELECT sum(requests) FROM metering.rollup_15m WHERE user_id = \(user)")
                    == 6)
            #expect(try await bench.daysDifferences() == 0)
            #expect(
                try await bench.number("SELECT sum(requests) FROM metering.rollup_day WHERE user_id = \(user)") == 6)
        }
    }

    @Test func laravelsRowsReachTheCounters() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            try await bench.writeAsLaravel(user, status: "rate_limited")
            // What was there at the first migration is counted already.
            try await bench.execute("UPDATE metering.installation SET counted_log_id = (SELECT max(id) FROM api_logs)")
            try await bench.writeAsLaravel(user)
            try await bench.writeAsLaravel(user, status: "rate_limited")
            try await bench.writeAsLaravel(user, at: "2026-11-02 00:00:00")
            _ = try await bench.write([Self.event(1, user)])
            for _ in 0..<2 { try await bench.rollUp() }
            try await bench.updateCounters()
            let used = try await bench.text(
                """
                SELECT string_agg(concat_ws(' ', period, used_tokens, used_requests), ', ' ORDER BY period)
                FROM rate_limits
                """
            )
            #expect(used == "daily 300 2, monthly 450 3")
        }
    }

    @Test func whatIsDeletedAfterwardsStays() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user)])
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            // Their rows cascade: the event's facts are ours, the other was never rolled up.
            _ = try await bench.write([Self.event(2, user)])
            try await bench.writeAsLaravel(user)
            #expect(try await bench.requests(of: user) == 4)
            try await bench.execute("DELETE FROM users WHERE id = \(user)")
            #expect(try await bench.requests(of: user) == 3)
            try await bench.rollUp()
            #expect(try await bench.requests(of: user) == 3)
        }
    }

    @Test func gapsCostNoWindow() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for _ in 0..<5 { try await bench.writeAsLaravel(user) }
            try await bench.execute("SELECT setval('api_logs_id_seq', 4000000000000)")
            for index: UInt64 in 0..<5 { _ = try await bench.write([Self.event(index, user)]) }
            #expect(try await bench.rollUp(window: 3).rows == 10)
            #expect(try await bench.requests(of: user) == 10)
        }
    }

    @Test func tokensBeyondInt64Saturate() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for index: UInt64 in 0..<3 {
                _ = try await bench.write([Self.event(index, user) { $0.inputTokens = .max }])
                try await bench.rollUp()
            }
            #expect(
                try await bench.text("SELECT input_tokens FROM metering.rollup_15m WHERE user_id = \(user)")
                    == "9223372036854775807")
        }
    }
}

extension StorageBench {
    /// Rows of `rollup_day` that differ from the 15-minute rollups before the day boundary.
    func daysDifferences() async throws -> Int {
        try await number(
            """
            SELECT count(*) FROM (
                SELECT user_id, metering.day_of(quarter) AS day, dimension, sum(requests) AS r, sum(cost) AS c,
                       sum(input_tokens) AS i, metering.merged(metering.joined(histogram)) AS h
                FROM metering.rollup_15m, metering.rollup_watermark WHERE quarter < day_boundary GROUP BY 1, 2, 3
            ) q FULL JOIN metering.rollup_day d USING (user_id, day, dimension)
            WHERE (q.r, q.c, q.i, q.h)
                  IS DISTINCT FROM (d.requests, d.cost, d.input_tokens, metering.merged(d.histogram))
            """)
    }
}
