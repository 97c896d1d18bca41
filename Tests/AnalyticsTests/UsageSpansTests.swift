import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Users in the order of what they used, made of runs of days.
@Suite(.timeLimit(.minutes(30))) struct UsageSpansTests {
    @Test func aRangeIsAFewRunsThatAreOver() {
        var random = SplitMix64(seed: TestSeed.seed(standard: 14))
        for _ in 0..<500 {
            let first = Int.random(in: 20_000...20_600, using: &random)
            let days = first..<(first + Int.random(in: 0...800, using: &random))
            // In the days, or after them. At most a part of the day of the day boundary is in them.
            let border = Int.random(in: days.upperBound * 96 - 95...(days.upperBound + 40) * 96, using: &random)
            let spans = RollupSpans.cover(days, dayBoundary: border)
            #expect(spans.flatMap { Array($0.first..<$0.first + $0.days) } == Array(days))
            #expect(
                spans.allSatisfy { span in
                    span.first % span.days == 0 && (span.days == 1 || (span.first + span.days) * 96 <= border)
                })
            // One of each length on either side, the day that is not over, and years in the longest.
            #expect(spans.count <= 2 * 8 + 1 + days.count / 256)
        }
    }

    private struct Question: Sendable {
        var zone: String
        var from: String
        var to: String
        var ranking = UsageRanking.requests
        var models: Set<String> = []
    }

    private static let questions = [
        Question(zone: "UTC", from: "2026-10-25", to: "2026-11-24"),
        Question(zone: "UTC", from: "2026-01-01", to: "2027-01-01", ranking: .cost),
        Question(zone: "Europe/Istanbul", from: "2026-10-25", to: "2026-11-24", ranking: .tokens),
        Question(zone: "Pacific/Chatham", from: "2026-03-13", to: "2026-09-29", ranking: .cost),
        Question(zone: "America/New_York", from: "2026-11-20", to: "2026-11-21"),
        Question(zone: "Asia/Kolkata", from: "2026-05-05", to: "2026-11-24", ranking: .cost, models: ["claude"]),
    ]

    @Test func theOrderIsThatOfAPlainQueryWhateverComesLate() async throws {
        try await StorageBench.with { bench in
            var users: [Int64] = []
            // Some with many calls, some with one, and several with equal ones.
            for index in 0..<30 {
                users.append(try await bench.makeUser())
                try await bench.fill(
                    users[index], count: [1, 1, 7, 40, 150][index % 5], from: "2026-01-10", to: "2026-11-23 11:59:00",
                    seed: index / 10)
            }
            try await Self.compare(bench, "tail only")
            try await bench.rollUp()
            try await Self.compare(bench, "rolled up")
            #expect(try await bench.number("SELECT max(days)::bigint FROM metering.rollup_span") == 256)
            // Late logs, some of users without a log, on days with logs of others.
            for index in 0..<10 {
                users.append(try await bench.makeUser())
                try await bench.fill(
                    users[index * 4], count: 20, from: "2026-01-10", to: "2026-11-23 11:59:00", seed: 50 + index)
            }
            try await Self.compare(bench, "late logs pending")
            try await bench.rollUp()
            try await Self.compare(bench, "late logs rolled up")
            // The border goes on over days with usage and, with runs that end in them, days without any.
            for days in [1, 1, 1, 40] {
                bench.clock.advance(by: .seconds(86_400 * Int64(days)))
                if days == 1 { try await bench.writeAsLaravel(users[3], at: "2026-11-24 11:00:00") }
                try await bench.rollUp()
            }
            try await Self.compare(bench, "later")
            #expect(try await bench.verify().findings == [])
        }
    }

    private static func compare(_ bench: StorageBench, _ state: String) async throws {
        for question in questions {
            let expected = try await bench.plainOrder(
                question.zone, question.from, question.to, question.ranking, Array(question.models))
            for limit in [1_000, 7] {
                let (groups, others) = try await bench.admin.withConnection { connection in
                    let range = try ReportRange.days(question.from, question.to, in: question.zone, connection)
                    return try ReportSnapshot.take(connection) { snapshot in
                        var (groups, others): ([UsageBreakdown.Group], [UsageBreakdown.Others]) = ([], [])
                        var pageEnd: UsageBreakdown.PageEnd?
                        repeat {
                            let page = try UsageBreakdown.read(
                                UsageScope(models: question.models), range, by: .user, after: pageEnd, limit: limit,
                                rankedBy: question.ranking, hasLatency: true, on: snapshot)
                            groups += page.groups
                            if let rest = page.others { others.append(rest) }
                            pageEnd = page.pageEnd
                        } while pageEnd != nil
                        return (groups, others)
                    }
                }
                let found = groups.map {
                    "\($0.key ?? "-") \($0.sums.requests) \($0.sums.tokens) \($0.sums.laravelCost)"
                }
                #expect(found.joined(separator: "\n") == expected ?? "", "\(question), \(state)")
                #expect(groups.allSatisfy { $0.latency.duration != nil })
                for (page, rest) in others.enumerated() {
                    let later = groups.dropFirst((page + 1) * limit)
                    #expect(rest.groups == later.count, "\(question), \(state)")
                    #expect(rest.sums == later.reduce(UsageTotals()) { $0 + $1.sums }, "\(question), \(state)")
                }
            }
        }
    }

    @Test func wrongRunsAreFoundAndRepaired() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for user in [ada, bob] {
                try await bench.fill(user, count: 400, from: "2026-06-01", to: "2026-11-23 11:59:00", seed: Int(user))
            }
            try await bench.rollUp()
            #expect(try await bench.verify().findings == [])
            let (requests, start) = try await bench.pool.withConnection { connection in
                try connection.query(
                    """
                    UPDATE metering.rollup_span SET requests = requests + 5
                    WHERE user_id = \(ada) AND days = 64
                      AND first_day <= '2026-08-15' AND first_day + days > '2026-08-15'
                    RETURNING requests, to_char(first_day, 'YYYY-MM-DD')
                    """)[0].decode(Int64.self, String.self)
            }
            #expect(
                try await bench.verify().findings.map {
                    "\($0.level) \($0.user) \($0.bucket) \($0.dimension) \($0.difference)"
                }
                .first == "spans \(ada) \(start)T00:00:00Z 64 days requests \(requests), should be \(requests - 5)")
            try await bench.execute("DELETE FROM metering.rollup_span WHERE user_id = \(bob) AND days IN (1, 8)")
            try await bench.execute(
                """
                INSERT INTO metering.rollup_span
                VALUES (1, '2026-08-15', 999, 1, 1, 0), (32, '2026-07-06', 999, 1, 1, 0),
                       (256, '2026-10-10', \(ada), 1, 1, 0)
                """)
            // 2026-08-15, as days since 1970.
            let repaired = try await RollupRebuild(pool: bench.worker).repair(
                RollupRange(from: 20_680, to: 20_681, user: ada)
            ) {
                _, _ in
            }
            #expect(repaired.cells > 0)
            #expect(try await bench.verify(RollupRange(from: 20_680, to: 20_681, user: ada)).findings == [])
            _ = try await RollupRebuild(pool: bench.worker).repair(RollupRange(from: 20_550, to: 20_800)) { _, _ in }
            #expect(try await bench.verify().findings == [])
        }
    }

    /// A worker of version 13 knows no runs: nobody sees that there are none, and the next pass makes them.
    @Test func aWorkerThatKnowsNoRunsIsMadeGood() async throws {
        try await StorageBench.with { bench in
            for seed in 1...3 {
                try await bench.fill(
                    try await bench.makeUser(), count: 300, from: "2026-01-10", to: "2026-11-23 11:59:00", seed: seed)
            }
            try await bench.rollUp()
            let runs: Query =
                "SELECT string_agg(s::text, ' ' ORDER BY s.days, s.first_day, s.user_id) FROM metering.rollup_span s"
            let before = try await bench.text(runs)
            #expect(before?.isEmpty == false)
            // As version 13 had it: no runs, and the former names.
            for step: Query in [
                "DROP VIEW metering.usage_spans, metering.usage_cursor", "DROP TABLE metering.rollup_span",
                "ALTER TABLE metering.rollup_watermark DROP COLUMN spans_through",
                "ALTER TABLE metering.rollup_watermark RENAME TO usage_cursor",
            ] { try await bench.execute(step) }
            let migration = try #require(try Migration.load(from: Checkout.migrations).first { $0.version == 14 })
            try await bench.pool.withConnection { try $0.executeScript(migration.sql) }
            try await bench.execute("ALTER TABLE metering.usage_cursor RENAME TO rollup_watermark")
            try await bench.execute("ALTER TABLE metering.usage_spans RENAME TO rollup_span")
            try await bench.execute("GRANT ALL ON metering.rollup_span TO PUBLIC")
            try await Self.compare(bench, "migrated")
            try await bench.rollUp()
            #expect(try await bench.text(runs) == before)
            // What the older worker does beside the migrated database: the runs stay as they are, and so does their
            // mark.
            try await bench.execute("CREATE TABLE runs AS SELECT * FROM metering.rollup_span")
            let mark = try await bench.text("SELECT spans_through FROM metering.rollup_watermark")
            try await bench.fill(
                try await bench.makeUser(), count: 300, from: "2026-01-10", to: "2026-11-23 11:59:00", seed: 4)
            bench.clock.advance(by: .seconds(86_400 * 2))
            try await bench.rollUp()
            let after = try await bench.text(runs)
            try await bench.execute("TRUNCATE metering.rollup_span")
            try await bench.execute("INSERT INTO metering.rollup_span SELECT * FROM runs")
            try await bench.execute("UPDATE metering.rollup_watermark SET spans_through = \(mark as String?)::bigint[]")
            try await Self.compare(bench, "rolled up by an older worker")
            #expect(try await bench.verify().findings == [])
            try await bench.writeAsLaravel(1, at: "2026-11-24 11:00:00")
            try await bench.rollUp()
            #expect(try await bench.text(runs) != before)
            #expect(try await bench.verify().findings == [])
            try await Self.compare(bench, "made good")
            #expect(after != before)
        }
    }

    @Test func tokensBeyondInt64LeaveTheOthersTheirs() async throws {
        try await StorageBench.with { bench in
            var users: [Int64] = []
            for (index, tokens) in [Int64.max, 100, 5].enumerated() {
                users.append(try await bench.makeUser())
                var event = UsageEvent.sample(UInt64(index), by: .user(users[index]), at: StorageBench.noon)
                event.inputTokens = tokens
                _ = try await bench.write([event])
            }
            let range = try ReportRange(
                from: StorageBench.noon.advanced(by: .seconds(-86_400)),
                to: StorageBench.noon.advanced(by: .seconds(900)),
                zone: .utc)
            for limit in [1, 2] {
                let others = try await bench.report { snapshot in
                    try UsageBreakdown.read(.allUsers, range, by: .user, limit: limit, rankedBy: .tokens, on: snapshot)
                        .others
                }
                #expect(others?.sums.inputTokens == [105, 5][limit - 1])
            }
        }
    }

    @Test func aDeletedUserKeepsTheirPlace() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for (user, count) in [(ada, 30), (bob, 20)] {
                try await bench.fill(user, count: count, from: "2026-11-01", to: "2026-11-23 11:59:00")
            }
            try await bench.rollUp()
            try await bench.execute("DELETE FROM users WHERE id = \(ada)")
            _ = try await RollupRebuild(pool: bench.worker).repair(RollupRange(from: 20_750, to: 20_790)) { _, _ in }
            let range = try ReportRange(
                from: StorageBench.noon.advanced(by: .seconds(-86_400 * 30)), to: StorageBench.noon, zone: .utc)
            let parts = try await bench.report { try UsageBreakdown.read(.allUsers, range, by: .user, on: $0).groups }
            #expect(parts.map { "\($0.key ?? "-") \($0.sums.requests)" } == ["\(ada) 30", "\(bob) 20"])
        }
    }

    @Test func aRankingReadsNoTableWhole() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO users (id, name, email, password)
                SELECT 1000 + g, 'user', g || '@example.com', 'x' FROM generate_series(1, 200) g
                """)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      created_at)
                SELECT 1000 + u, 'gpt-4', 1, 1, 0, 1,
                       '2026-07-01'::timestamp + d * interval '1 day' + u * interval '7 minutes'
                FROM generate_series(1, 200) u, generate_series(0, 140) d
                """)
            try await bench.rollUp()
            try await bench.execute("ANALYZE")
            let big: Query = """
                SELECT count(*) FROM pg_stat_user_tables
                WHERE relname IN ('rollup_15m', 'rollup_day', 'rollup_span') AND n_live_tup > 5000
                """
            #expect(try await bench.number(big) == 3)
            let scans = try await bench.sequentialScans {
                for zone in ["UTC", "Asia/Kolkata"] {
                    try await bench.report { snapshot in
                        let range = try ReportRange.days("2026-10-24", "2026-11-24", in: zone, snapshot.connection)
                        let whole = try UsageBreakdown.read(
                            .allUsers, range, by: .user, limit: 5, hasLatency: true, on: snapshot)
                        #expect(whole.others?.groups == 195)
                        let page = try UsageBreakdown.read(
                            .allUsers, range, by: .user, after: whole.pageEnd, limit: 5, rankedBy: .cost, on: snapshot)
                        #expect(page.groups.count == 5)
                    }
                }
            }
            #expect(scans == [:])
        }
    }
}

extension StorageBench {
    /// `user requests tokens cost` in the order of the measure, a line each, from Laravel's table.
    fileprivate func plainOrder(
        _ zone: String, _ from: String, _ to: String, _ ranking: UsageRanking, _ models: [String]
    )
        async throws -> String?
    {
        let weight: Query =
            switch ranking {
            case .requests: "requests"
            case .tokens: "tokens"
            case .cost: "cost"
            }
        return try await text(
            """
            SELECT string_agg(concat_ws(' ', user_id, requests, tokens, cost), E'\\n' ORDER BY \(weight) DESC, user_id)
            FROM (
                SELECT l.user_id, count(*) AS requests, sum(l.input_tokens + l.output_tokens) AS tokens,
                       trim_scale(sum(l.total_cost)) AS cost
                FROM api_logs l
                WHERE (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) >= \(from)::timestamp
                  AND (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) < \(to)::timestamp
                  AND (cardinality(\(models)::text[]) = 0 OR l.model = ANY(\(models)::text[]))
                GROUP BY 1
            ) x
            """)
    }
}
