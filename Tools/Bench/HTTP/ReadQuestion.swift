import Domain
import Foundation
import Postgres
import Storage

/// A request of a dashboard, and what plain rows say to it.
struct ReadQuestion: Sendable {
    let name: String
    let summary: String
    /// Whether an administrator asks; else the user who made a tenth of all calls.
    var isAdministrators = false
    /// Path and query, asked in the range that begins with a day.
    let path: @Sendable (_ from: CalendarDate) -> String
    /// The calls that an answer counts.
    let calls: @Sendable (Data) throws -> Int
    /// The calls that it must count.
    let truth: @Sendable (_ from: CalendarDate) -> Query

    static let all = [
        ReadQuestion("stats", "GET /api/dashboard/stats") { _ in
            "/api/dashboard/stats"
        } calls: {
            try JSONDecoder().decode(Stats.self, from: $0).today.calls
        } truth: { _ in
            rows(since: "date_trunc('day', now() AT TIME ZONE 'UTC')")
        },
        ReadQuestion("usage", "GET /api/dashboard/usage: 30 days by day and by model, and the last calls") { _ in
            "/api/dashboard/usage"
        } calls: {
            try JSONDecoder().decode(Usage.self, from: $0).distribution.counts.reduce(0, +)
        } truth: { _ in
            rows(since: "date_trunc('second', now() AT TIME ZONE 'UTC' - interval '30 days')")
        },
        ReadQuestion("analytics", "GET /api/usage/analytics: 30 days, models of all time, the present month") { _ in
            "/api/usage/analytics"
        } calls: {
            try JSONDecoder().decode(Analytics.self, from: $0).month.calls
        } truth: { _ in
            rows(since: "date_trunc('month', now() AT TIME ZONE 'UTC')")
        },
        ReadQuestion("series-model", "GET /api/v1/analytics/timeseries: 30 days by day and model") {
            "/api/v1/analytics/timeseries?from=\($0)&granularity=day&group_by=model"
        } calls: {
            try JSONDecoder().decode(Series.self, from: $0).series.flatMap(\.values).reduce(0) { $0 + $1.requests }
        } truth: {
            rows(since: "\($0.start) AT TIME ZONE 'UTC'")
        },
        ReadQuestion(
            "breakdown-user", "GET /api/v1/analytics/breakdown: 30 days of all users by user", isAdministrators: true
        ) {
            "/api/v1/analytics/breakdown?from=\($0)&group_by=user"
        } calls: {
            try JSONDecoder().decode(Breakdown.self, from: $0).total.requests
        } truth: {
            "SELECT count(*) FROM public.api_logs WHERE created_at >= \($0.start) AT TIME ZONE 'UTC'"
        },
    ]

    private init(
        _ name: String, _ summary: String, isAdministrators: Bool = false,
        path: @escaping @Sendable (CalendarDate) -> String, calls: @escaping @Sendable (Data) throws -> Int,
        truth: @escaping @Sendable (CalendarDate) -> Query
    ) {
        self.name = name
        self.summary = summary
        self.isAdministrators = isAdministrators
        self.path = path
        self.calls = calls
        self.truth = truth
    }

    private static func rows(since moment: Query) -> Query {
        "SELECT count(*) FROM public.api_logs WHERE user_id = \(Int64(Person.heavyID)) AND created_at >= \(moment)"
    }
}

/// The parts of answers that count calls.
private struct Calls: Decodable {
    let calls: Int
    enum CodingKeys: String, CodingKey { case calls = "api_calls" }
}

private struct Requests: Decodable { let requests: Int }

private struct Stats: Decodable { let today: Calls }

private struct Usage: Decodable {
    struct Distribution: Decodable { let counts: [Int] }
    let distribution: Distribution
    enum CodingKeys: String, CodingKey { case distribution = "model_distribution" }
}

private struct Analytics: Decodable {
    let month: Calls
    enum CodingKeys: String, CodingKey { case month = "monthly_stats" }
}

private struct Series: Decodable {
    struct Line: Decodable { let values: [Requests] }
    let series: [Line]
}

private struct Breakdown: Decodable { let total: Requests }
