import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Laravel's dashboards, as Laravel answered them on the same rows (`Tests/Fixtures/laravel/goldens`).
@Suite(.timeLimit(.minutes(30))) struct LaravelReportTests {
    /// A second after the first row of the goldens.
    private static let now = Timestamp(microseconds: 1_795_421_050_000_000)

    @Test func theGoldensOnTheirRows() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      error_message, created_at, updated_at)
                SELECT \(user), (ARRAY['gpt-4', 'claude-haiku', 'gemini, pro', 'say "hi"'])[1 + i % 4], 100 + i, 50 + i,
                       0.0015 * i, 1000 + i, (ARRAY['success', 'success', 'error', 'rate_limited'])[1 + i / 3 % 4],
                       CASE WHEN i % 7 = 0 THEN 'boom ' || i END,
                       '2026-11-23 08:04:09'::timestamp - i * interval '9 hours',
                       '2026-11-23 08:04:09'
                FROM generate_series(0, 119) i
                """)
            for _ in 0..<2 {
                try await Self.compare(bench, user)
                try await bench.rollUp()
            }
        }
    }

    private static func compare(_ bench: StorageBench, _ user: Int64) async throws {
        let (stats, chart, analytics, calls) = try await bench.report { snapshot in
            try (
                LaravelStats.read(of: user, now: now, on: snapshot),
                LaravelChart.read(of: user, now: now, on: snapshot),
                LaravelAnalytics.read(of: user, now: now, on: snapshot),
                RecentCalls.list(of: user, on: snapshot.connection)
            )
        }
        let today = try Golden.read("355_dashboard_stats_seeded").today
        #expect(stats.apiCalls == today?.apiCalls)
        #expect(stats.tokensUsed == today?.tokensUsed)
        #expect(Double("\(stats.totalCost)") == today?.totalCost)
        #expect(stats.averageResponseTime == today?.avgResponseTime)

        let usage = try Golden.read("356_dashboard_usage_seeded")
        #expect(chart.days.map(\.label) == usage.chart?.dates)
        #expect(chart.days.map(\.tokens) == usage.chart?.tokens)
        // Laravel leaves models of equal use in any order.
        #expect(chart.models.map(\.name) == usage.modelDistribution?.models.sorted())
        #expect(chart.models.map(\.calls) == usage.modelDistribution?.counts)
        #expect(calls.map(\.id) == usage.recentLogs?.map(\.id))
        #expect(calls.map { $0.cost?.laravelText } == usage.recentLogs?.map(\.totalCost))
        #expect(calls.map(\.status) == usage.recentLogs?.map(\.status))
        #expect(calls.map(\.errorMessage) == usage.recentLogs?.map(\.errorMessage))

        let golden = try Golden.read("357_usage_analytics_seeded")
        #expect(analytics.costTrend.map(\.label) == golden.costTrend?.dates)
        #expect(analytics.costTrend.map { Double("\($0.cost)") } == golden.costTrend?.costs)
        #expect(analytics.topModels.map(\.name) == golden.topModels?.map(\.model).sorted())
        #expect(analytics.topModels.map(\.calls) == golden.topModels?.map(\.usageCount))
        #expect(analytics.month.apiCalls == golden.monthlyStats?.apiCalls)
        #expect(analytics.month.tokensUsed == golden.monthlyStats?.tokensUsed)
        #expect(Double("\(analytics.month.totalCost)") == golden.monthlyStats?.totalCost)
    }

    @Test func aUserWithoutCallsHasNothing() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let (stats, chart, analytics) = try await bench.report { snapshot in
                try (
                    LaravelStats.read(of: user, now: Self.now, on: snapshot),
                    LaravelChart.read(of: user, now: Self.now, on: snapshot),
                    LaravelAnalytics.read(of: user, now: Self.now, on: snapshot)
                )
            }
            #expect(
                "\(stats.apiCalls) \(stats.tokensUsed) \(stats.totalCost) \(stats.averageResponseTime)" == "0 0 0 0.0")
            #expect(chart.days.isEmpty && chart.models.isEmpty)
            #expect(analytics.costTrend.isEmpty && analytics.topModels.isEmpty)
            #expect("\(analytics.month.apiCalls) \(analytics.month.tokensUsed) \(analytics.month.totalCost)" == "0 0 0")
        }
    }

    /// At every minute of the day the window begins at the second, whichever quarter holds it.
    @Test func theWindowBeginsAtItsSecond() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.fill(user, count: 6_000, from: "2026-10-23", to: "2026-10-25")
            try await bench.rollUp()
            let midnight = Timestamp(microseconds: 1_795_392_000_000_000)
            for second in [0, 1, 59, 899, 900, 43_201, 85_499, 85_500, 85_501, 86_399] {
                let now = midnight.advanced(by: .seconds(second) + .milliseconds(7))
                let (chart, analytics) = try await bench.report {
                    try (
                        LaravelChart.read(of: user, now: now, on: $0), LaravelAnalytics.read(of: user, now: now, on: $0)
                    )
                }
                let expected = try await bench.text(
                    """
                    SELECT concat_ws(' ', count(*), coalesce(sum(input_tokens + output_tokens), 0),
                                     coalesce(trim_scale(sum(total_cost)), 0))
                    FROM api_logs WHERE created_at >= '2026-10-24'::timestamp + \(second) * interval '1 second'
                    """)
                let found =
                    """
                    \(chart.models.reduce(0) { $0 + $1.calls }) \(chart.days.reduce(0) { $0 + $1.tokens }) \
                    \(analytics.costTrend.reduce(.zero) { $0 + $1.cost })
                    """
                #expect(found == expected, "\(second)")
            }
        }
    }
}

/// What the goldens of the dashboards hold.
private struct Golden: Decodable {
    struct Today: Decodable { let apiCalls, tokensUsed: Int64; let totalCost, avgResponseTime: Double }
    struct Chart: Decodable { let dates: [String]; let tokens: [Int64] }
    struct Distribution: Decodable { let models: [String]; let counts: [Int64] }
    struct Log: Decodable { let id: Int64; let totalCost, status: String; let errorMessage: String? }
    struct Trend: Decodable { let dates: [String]; let costs: [Double] }
    struct Model: Decodable { let model: String; let usageCount: Int64 }
    struct Month: Decodable { let apiCalls, tokensUsed: Int64; let totalCost: Double }

    let today: Today?
    let chart: Chart?
    let modelDistribution: Distribution?
    let recentLogs: [Log]?
    let costTrend: Trend?
    let topModels: [Model]?
    let monthlyStats: Month?

    static func read(_ name: String) throws -> Golden {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Golden.self, from: Data(try Fixtures.laravelAnswer(to: name).utf8))
    }
}
