import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// `/api/usage`: the caller's logs, analytics and export.
struct UsageController: Sendable {
    let database: Database
    /// Whether proxies are trusted to say how the client reached them.
    let isBehindProxies: Bool

    private static let page = Paginator.json("LaravelLogPage", of: LogRow.laravelJSON)

    private static let analytics = JSONType<LaravelAnalytics>.object(
        "LaravelAnalytics",
        [
            Field("cost_trend", costTrend, \.costTrend), Field("top_models", .list(topModel), \.topModels),
            Field("monthly_stats", month, \.month),
        ])

    private static let costTrend = JSONType<[LaravelAnalytics.Day]>.object(
        "LaravelCostTrend",
        [
            Field("dates", .list(.string)) { $0.map(\.label) }, Field("costs", .list(.moneyNumber)) { $0.map(\.cost) },
        ])

    private static let topModel = JSONType<LaravelChart.Model>.object(
        "LaravelTopModel",
        [Field("model", .string, example: "gpt-4o", \.name), Field("usage_count", .integer, \.calls)])

    private static let month = JSONType<LaravelAnalytics.Month>.object(
        "LaravelMonth",
        [
            Field("api_calls", .integer, \.apiCalls), Field("tokens_used", .integer, \.tokensUsed),
            Field("total_cost", .moneyNumber, \.totalCost),
        ])

    var listUsageLogs: Operation {
        Operation(
            "The logs, page by page.",
            [
                .query("page", .text(255), "The page, from 1. Text that is no number is page 1.", example: "1"),
                .query("per_page", .integer(1...1000), "Logs on a page; 50 by default."),
                .query("model", .text(255), "Only this model.", example: "gpt-4o"),
                .query("status", .text(255), "Only this status.", example: "success"),
                .query("date_from", .moment, "Not before this UTC day."),
                .query("date_to", .moment, "Not after this UTC day."),
            ], returns: Self.page
        ) { request in
            let user = try request.user.id
            let (number, size) = (max(1, request.integer("page") ?? 1), request.integer("per_page") ?? 50)
            let (from, through) = (request.day("date_from"), request.day("date_to"))
            let (models, statuses) = (request.texts("model"), request.texts("status"))
            let page = try await database.snapshot { connection in
                try LogPage.read(
                    of: user, number: number, size: size, models: models, statuses: statuses, from: from,
                    through: through, connection)
            }
            let path = request.rootURL(isBehindProxies: isBehindProxies) + "/api/usage/logs"
            return (Paginator(path: path, number: number, size: size, total: page.total), page.rows)
        }
    }

    var getUsageAnalytics: Operation {
        Operation("Cost by day, the models used most, and this month.", returns: Self.analytics) { request in
            let user = try request.user.id
            return try await database.read { connection in
                try ReportSnapshot.take(connection) { try LaravelAnalytics.read(of: user, now: request.now, on: $0) }
            }
        }
    }

    var exportUsage: Operation {
        Operation("All logs as CSV.", content: [("text/csv", Schema.string)]) { try await export($0) }
    }

    var exportUsageByPost: Operation {
        Operation("All logs as CSV.", content: [("text/csv", Schema.string)]) { try await export($0) }
    }

    @Sendable private func export(_ request: APIRequest) async throws -> APIResponse {
        let user = try request.user.id
        let filter = LogFilter(userID: user)
        var answer = try database.export(to: user, as: "text/csv; charset=utf-8", LaravelCSV()) { connection, send in
            try LogStream.forEachLaravelBatch(filter, connection, send)
        }
        answer.headers[.contentDisposition] = #"attachment; filename="usage_export.csv""#
        return answer
    }
}

extension APIRequest {
    /// The UTC day of a date or time.
    func day(_ name: String) -> CalendarDate? { text(name).flatMap { CalendarDate(String($0.prefix(10))) } }

    /// How the client reached this service: scheme and host.
    func rootURL(isBehindProxies: Bool) -> String {
        let forwarded = isBehindProxies ? http.headers[.forwardedProto] : nil
        return "\(forwarded == "https" ? "https" : "http")://\(http.head.authority ?? "localhost")"
    }
}
