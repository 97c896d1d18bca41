import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Questions about usage, answered from sums and tail.
@Suite(.timeLimit(.minutes(30))) struct UsageReportTests {
    private static func range(_ from: String, _ to: String, _ bench: StorageBench, zone: String = "UTC") async throws
        -> ReportRange
    {
        try await bench.admin.withConnection { try ReportRange.days(from, to, in: zone, $0) }
    }

    @Test func aSummaryHasItsPeriodAndTheOneBefore() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            try await bench.fill(ada, count: 2_000, from: "2026-11-01", to: "2026-11-23 11:59:00")
            try await bench.fill(bob, count: 300, from: "2026-11-01", to: "2026-11-23 11:59:00", seed: 2)
            var event = UsageEvent.sample(1, by: .user(ada), at: StorageBench.noon)
            (event.cost, event.timeToFirstTokenMilliseconds, event.cachedTokens, event.reasoningTokens) = (
                nil, 310, 7, 9
            )
            _ = try await bench.write([event])
            let range = try await Self.range("2026-11-14", "2026-11-24", bench)
            var summaries: [UsageSummary] = []
            for _ in 0..<2 {
                for scope in [
                    UsageScope.user(ada), .allUsers, UsageScope(user: ada, models: ["gpt-4"], statuses: [.error]),
                ] {
                    summaries.append(try await bench.report { try UsageSummary.read(scope, range, on: $0) })
                }
                try await bench.rollUp()
            }
            #expect(Array(summaries[3...]) == Array(summaries[..<3]))
            let sums = summaries[0].current.sums
            let found =
                """
                \(sums.requests) \(sums.errors) \(sums.rateLimited) \(sums.inputTokens) \(sums.outputTokens) \
                \(sums.duration) \(sums.laravelCost)
                """
            let expected = try await bench.text(
                """
                SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE status = 'error'),
                                 count(*) FILTER (WHERE status = 'rate_limited'), sum(input_tokens), sum(output_tokens),
                                 sum(response_time_ms), trim_scale(sum(total_cost)))
                FROM api_logs WHERE user_id = \(ada) AND created_at >= '2026-11-14'
                """)
            #expect(found == expected)
            #expect((sums.unpriced, sums.cachedTokens, sums.reasoningTokens) == (1, 7, 9))
            #expect(abs((summaries[0].current.latency.firstToken?.p50 ?? 0) / 310 - 1) <= 0.02)
            #expect(summaries[0].previous?.range.to == range.from)
            #expect(
                try await bench.number(
                    """
                    SELECT count(*) FROM api_logs
                    WHERE user_id = \(ada) AND created_at >= '2026-11-04' AND created_at < '2026-11-14'
                    """
                )
                    == Int(summaries[0].previous?.sums.requests ?? 0))
            #expect(
                try await bench.number("SELECT count(*) FROM api_logs WHERE created_at >= '2026-11-14'")
                    == Int(summaries[1].current.sums.requests))
            #expect(
                try await bench.number(
                    """
                    SELECT count(*) FROM api_logs
                    WHERE user_id = \(ada) AND created_at >= '2026-11-14' AND model = 'gpt-4' AND status = 'error'
                    """
                ) == Int(summaries[2].current.sums.requests))
        }
    }

    /// One statement reads periods with a gap between them, and two statements those that are far apart or overlap.
    @Test func periodsAreTheSameTogetherAndAlone() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.fill(user, count: 3_000, from: "2026-08-01", to: "2026-11-23 11:59:00")
            let last = try await Self.range("2026-11-20", "2026-11-24", bench, zone: "Europe/Istanbul")
            let before = [("2026-11-01", "2026-11-05"), ("2026-11-16", "2026-11-20"), ("2026-08-10", "2026-08-14")]
            for rolls in [false, true] {
                if rolls { try await bench.rollUp() }
                for (from, to) in before + [("2026-11-18", "2026-11-22")] {
                    let range = try await Self.range(from, to, bench, zone: "Europe/Istanbul")
                    let (pair, alone) = try await bench.report { snapshot in
                        (
                            try UsageSummary.read(.user(user), last, comparedWith: range, on: snapshot),
                            try [last, range].map {
                                try UsageSummary.Period.list(.user(user), [$0], on: snapshot)[0]
                            }
                        )
                    }
                    #expect([pair.current, pair.previous] == alone, "\(from)")
                    #expect(alone.allSatisfy { $0.sums.requests > 0 && $0.latency.duration != nil }, "\(from)")
                }
            }
        }
    }

    @Test func aBreakdownNamesTheLargestAndSumsTheOthers() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.fill(user, count: 700, from: "2026-11-01", to: "2026-11-23 11:59:00")
            try await bench.rollUp()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            let range = try await Self.range("2026-11-01", "2026-11-24", bench)
            let models = try await bench.report {
                try UsageBreakdown.read(.user(user), range, by: .model, limit: 2, hasLatency: true, on: $0)
            }
            #expect(models.groups.map(\.key) == ["gpt-4", "claude"])
            #expect(models.groups.map(\.sums.requests) == [301, 200])
            #expect(models.others?.groups == 1)
            #expect(models.others?.sums.requests == 200)
            #expect(models.total.requests == 701)
            #expect(models.groups[0].share == 301.0 / 701)
            #expect(models.groups[0].latency.duration != nil)
            let providers = try await bench.report {
                try UsageBreakdown.read(.allUsers, range, by: .provider, rankedBy: .cost, on: $0)
            }
            #expect(
                Set(providers.groups.map(\.key)) == [
                    nil, UsageEvent.sample(1, by: .user(user), at: StorageBench.noon).provider,
                ])
            #expect(providers.others == nil)
        }
    }

    /// The last day of the range is a UTC day without the quarter hours after the local midnight. All usage of `late`
    /// is in those.
    @Test func whatIsAfterTheLocalMidnightIsNoGroup() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for (model, moment) in [("gpt-4", "2026-11-20 10:00:00"), ("late", "2026-11-20 22:00:00")] {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          created_at)
                    VALUES (\(user), \(model), 1, 1, 0, 1, \(moment)::timestamp)
                    """)
            }
            try await bench.rollUp()
            let range = try await Self.range("2026-11-01", "2026-11-21", bench, zone: "Europe/Istanbul")
            for scope in [UsageScope.user(user), .allUsers] {
                let models = try await bench.report {
                    try UsageBreakdown.read(scope, range, by: .model, limit: 1, on: $0)
                }
                #expect(models.groups.map(\.key) == ["gpt-4"] && models.others == nil)
                let series = try await bench.report { try UsageSeries.read(scope, range, by: .model, on: $0) }
                #expect(series.lines.map(\.key) == ["gpt-4"])
            }
        }
    }

    @Test func theOperatorSeesWhoUsesMost() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(plan: "pro"), try await bench.makeUser(status: "suspended"))
            try await bench.fill(ada, count: 300, from: "2026-11-01", to: "2026-11-23 11:59:00")
            try await bench.fill(bob, count: 500, from: "2026-10-01", to: "2026-11-23 11:59:00", seed: 2)
            try await bench.rollUp()
            _ = try await bench.write([.sample(1, by: .user(ada), at: StorageBench.noon)])
            let range = try await Self.range("2026-09-01", "2026-11-25", bench, zone: "Pacific/Chatham")
            let (users, overview, count) = try await bench.report { snapshot in
                try (
                    UsageBreakdown.read(.allUsers, range, by: .user, on: snapshot),
                    UsageOverview.read(now: StorageBench.noon, on: snapshot),
                    CallCount.read(.user(bob), .allTime, on: snapshot)
                )
            }
            #expect(users.groups.map(\.key) == ["\(bob)", "\(ada)"])
            #expect(users.groups.map(\.sums.requests) == [500, 301])
            #expect(count.calls == 500)
            #expect(
                overview.users.map { "\($0.plan) \($0.status) \($0.count)" } == ["pro active 1", "starter suspended 1"])
            for (sums, day) in [(overview.today, "2026-11-23"), (overview.month, "2026-11-01")] {
                #expect(
                    try await bench.text(
                        """
                        SELECT concat_ws(' ', count(*), trim_scale(sum(total_cost))) FROM api_logs
                        WHERE created_at >= \(day)::date
                        """
                    ) == "\(sums.requests) \(sums.laravelCost)")
            }
        }
    }

    @Test func aSeriesIsFilledWithZero() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let range = try await Self.range("2026-11-01", "2026-11-24", bench, zone: "America/New_York")
            let empty = try await bench.report { try UsageSeries.read(.user(user), range, on: $0) }
            #expect(empty.granularity == .day)
            #expect(empty.buckets.count == 23)
            #expect(empty.lines.count == 1)
            #expect(empty.lines[0].sums == Array(repeating: UsageTotals(), count: 23))
            try await bench.fill(user, count: 700, from: "2026-11-03", to: "2026-11-23 11:59:00")
            let series = try await bench.report {
                try UsageSeries.read(.user(user), range, by: .model, limit: 2, hasLatency: true, on: $0)
            }
            #expect(series.lines.map(\.key) == ["gpt-4", "claude", nil])
            #expect(series.lines.map(\.isOthers) == [false, false, true])
            #expect(series.lines.map { $0.sums.reduce(0) { $0 + $1.requests } } == [300, 200, 200])
            #expect(series.lines.allSatisfy { $0.sums.count == 23 && $0.latencies.count == 23 })
        }
    }

    @Test func tooManyBucketsAreRefusedWithAGranularityThatFits() async throws {
        try await StorageBench.with { bench in
            let range = try await Self.range("2020-01-01", "2026-11-24", bench)
            let error = await #expect(throws: AppError.self) {
                try await bench.report { try UsageSeries.read(.allUsers, range, every: .day, on: $0) }
            }
            #expect(error?.message.contains("Ask for week") == true)
            let series = try await bench.report { try UsageSeries.read(.allUsers, range, every: .week, on: $0) }
            #expect(series.buckets.count == 361)
            #expect(try await bench.report { try UsageSeries.read(.allUsers, range, on: $0).granularity } == .month)
        }
    }

    @Test func aRangeIsCutToQuarterHoursAndNeverEmpty() throws {
        let range = try ReportRange(
            from: StorageBench.noon.advanced(by: .seconds(1)), to: StorageBench.noon.advanced(by: .seconds(2699)))
        #expect(range.from == StorageBench.noon)
        #expect(range.to == StorageBench.noon.advanced(by: .seconds(1800)))
        for seconds in [-900, 0, 899] {
            #expect(throws: AppError.self) {
                try ReportRange(from: StorageBench.noon, to: StorageBench.noon.advanced(by: .seconds(seconds)))
            }
        }
        #expect(throws: AppError.self) { try ReportRange(from: Timestamp(microseconds: -1), to: StorageBench.noon) }
    }

    @Test(arguments: ["Mars/Olympus", "X/Y+3", "EST5EDT4", "right/UTC", "", "Europe/Istanbul'", "UTC "])
    func aZoneThatIsNoneIsRefused(_ name: String) async throws {
        try await StorageBench.with { bench in
            _ = await #expect(throws: AppError.self) {
                try await bench.admin.withConnection { try TimeZoneName.require(name, $0) }
            }
        }
    }
}
