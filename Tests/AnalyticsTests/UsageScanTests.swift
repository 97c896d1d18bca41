import Domain
import Postgres
import Storage
import TestSupport
import Testing

@testable import Analytics

/// A pass, and a reader's tail, cost what is new and not what is there.
@Suite(.timeLimit(.minutes(30))) struct UsageScanTests {
    /// A user with one of Laravel's rows in each of 20,000 quarter hours up to October and 10,000 events on a day of
    /// November, all rolled up.
    private static func withHistory(_ body: @escaping @Sendable (StorageBench, _ user: Int64) async throws -> Void)
        async throws
    {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      created_at)
                SELECT \(user), 'gpt-4', 1, 1, 0, g, '2026-04-01'::timestamp + g * interval '15 minutes'
                FROM generate_series(1, 20000) g
                """)
            try await bench.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                    is_cache_hit, shape, status, plan, model_group)
                SELECT metering.event_key_floor('2026-11-03'::timestamptz + g * interval '1 second'), g, \(user),
                    '2026-11-03', 1, 1, 0, 0, 0, 2, 1, false, false, 'litellm', 'success', 'pro', 'gpt-4'
                FROM generate_series(1, 10000) g
                """)
            try await bench.rollUp()
            try await bench.execute("ANALYZE")
            try await body(bench, user)
        }
    }

    @Test func aPassAndATailReadNoTableWhole() async throws {
        try await Self.withHistory { bench, user in
            let scans = try await bench.sequentialScans {
                for round in 0..<4 {
                    _ = try await bench.write(
                        (0..<20).map {
                            .sample(UInt64(1_000_000 + round * 20 + $0), by: .user(user), at: StorageBench.noon)
                        })
                    try await bench.writeAsLaravel(user)
                    let state = try await bench.worker.withConnection { try RollupState.read($0) }
                    let tail = try await bench.number(
                        """
                        SELECT (SELECT count(*) FROM metering.event_facts(\(state.eventWatermark), \(Int64.max))
                                WHERE user_id = \(user))
                               + (SELECT count(*) FROM metering.log_facts(\(state.laravelWatermark), \(Int64.max))
                                  WHERE user_id = \(user))
                        """)
                    #expect(tail == 21)
                    try await bench.rollUp()
                    bench.clock.advance(by: .seconds(3600))
                }
            }
            #expect(scans == [:])
        }
    }

    /// Also of a few users, for whom the planner would rather look in all their events.
    @Test func aPollOfTheStreamReadsNoTableWhole() async throws {
        try await Self.withHistory { bench, user in
            let others = try await [bench.makeUser(), bench.makeUser()]
            var tail = try await bench.admin.withConnection { connection in
                try ReportSnapshot.take(connection) { try LogTail.begin(on: $0) }
            }
            let scans = try await bench.sequentialScans {
                for round in 0..<4 {
                    let events = (0..<20).map { number in
                        UsageEvent.sample(
                            UInt64(1_000_000 + round * 20 + number), by: .user(number % 2 == 0 ? user : others[0]),
                            at: StorageBench.noon)
                    }
                    _ = try await bench.write(events)
                    try await bench.writeAsLaravel(user)
                    let (next, growth, lines) = try await bench.admin.withConnection { [tail] connection in
                        var tail = tail
                        try tail.note(writersOn: connection)
                        return try ReportSnapshot.take(connection) { [tail] snapshot in
                            var tail = tail
                            let entries = try tail.advance(on: snapshot).entries
                            let lines = try LogEntries.read(entries.map(\.id), snapshot.connection).count
                            let users = Set([user, others[1]])
                            return (tail, try LiveUsage.growth(by: entries, of: users, on: snapshot), lines)
                        }
                    }
                    tail = next
                    #expect(growth.reduce(0) { $0 + $1.sums.requests } == 11 && lines == 21)
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func aProofAndARebuildOfADayReadThatDay() async throws {
        try await Self.withHistory { bench, user in
            // 2026-10-15, as days since 1970.
            let range = RollupRange(from: 20_741, to: 20_742)
            let planted = try await bench.worker.withConnection { connection in
                try connection.query(
                    """
                    UPDATE metering.rollup_15m SET requests = 0
                    WHERE user_id = \(user) AND quarter = metering.quarter_of('2026-10-15T12:00Z') RETURNING 1
                    """
                ).count
            }
            #expect(planted == 1)
            let scans = try await bench.sequentialScans {
                for user in [nil, user] {
                    let range = RollupRange(from: 20_741, to: 20_742, user: user)
                    let report = try await bench.worker.withConnection { try RollupVerification.verify(range, $0) }
                    #expect(report.count > 0)
                }
                let outcome = try await RollupRebuild(pool: bench.worker).repair(range) { _, _ in }
                #expect(outcome.cells == 1)
            }
            #expect(scans == [:])
            #expect(try await bench.verify(range).count == 0)
        }
    }

    /// A function that PostgreSQL calls for each row costs more than all else that a pass or report does with the row.
    @Test func aRowsQuarterIsWrittenOutInTheStatement() async throws {
        try await StorageBench.with { bench in
            let plan = try await bench.worker.withConnection { connection in
                try connection.query(
                    "EXPLAIN (VERBOSE) SELECT metering.quarter_of(f.occurred_at) FROM metering.event_facts(0, 9) f"
                ).map { try $0.decode(0, as: String.self) }.joined(separator: "\n")
            }
            #expect(plan.contains("date_part") && !plan.contains("quarter_of"))
            let wrong = try await bench.number(
                """
                SELECT count(*) FROM generate_series(-1000, 1000) q, unnest('{0,1,899999999}'::bigint[]) microseconds
                WHERE metering.quarter_of('epoch'::timestamptz + (q * 900000000::bigint * 1001 + microseconds)
                                                                 * interval '1 microsecond') <> q * 1001
                """)
            #expect(wrong == 0)
        }
    }

    /// Rollups of many quarter hours and users, and pending logs.
    @Test func reportsReadNoTableWhole() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            try await bench.fill(ada, count: 20_000, from: "2026-06-01", to: "2026-11-23 11:59:00")
            try await bench.fill(bob, count: 20_000, from: "2026-06-01", to: "2026-11-23 11:59:00", seed: 2)
            try await bench.rollUp()
            try await bench.execute("ANALYZE")
            _ = try await bench.write(
                (0..<20).map { .sample(UInt64($0), by: .user(ada), at: StorageBench.noon) })
            try await bench.writeAsLaravel(ada)
            #expect(
                try await bench.number(
                    """
                    SELECT count(*) FROM pg_stat_user_tables
                    WHERE relname ~ '^(rollup_15m|api_logs)$' AND n_live_tup > 5000
                    """
                )
                    == 2)
            let scans = try await bench.sequentialScans {
                for _ in 0..<3 {
                    try await bench.report { snapshot in
                        let range = try ReportRange.days(
                            "2026-10-24", "2026-11-24", in: "Asia/Kolkata", snapshot.connection)
                        for scope in [UsageScope.user(ada), .allUsers] {
                            _ = try UsageSummary.read(scope, range, on: snapshot)
                            _ = try UsageSeries.read(scope, range, by: .model, hasLatency: true, on: snapshot)
                            _ = try UsageBreakdown.read(scope, range, by: .status, on: snapshot)
                            _ = try CallCount.read(scope, range, on: snapshot)
                        }
                        _ = try UsageBreakdown.read(.allUsers, range, by: .user, on: snapshot)
                        _ = try UsageOverview.read(now: StorageBench.noon, on: snapshot)
                        _ = try LaravelStats.read(of: ada, now: StorageBench.noon, on: snapshot)
                        _ = try LaravelChart.read(of: ada, now: StorageBench.noon, on: snapshot)
                        _ = try LaravelAnalytics.read(of: ada, now: StorageBench.noon, on: snapshot)
                        _ = try RecentCalls.list(of: ada, on: snapshot.connection)
                    }
                }
            }
            #expect(scans == [:])
        }
    }
}
