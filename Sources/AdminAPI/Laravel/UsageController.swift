import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// `/api/usage`: a user's logs, their analytics and export.
struct UsageController: Sendable {
    let database: Database
    /// Whether a proxy's word is taken for how the client reached it.
    let isBehindProxies: Bool

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/usage/logs", .user, "The calls, page by page.",
                [
                    .query("page", .text(255), "The page, from 1; what is no number is the first."),
                    .query("per_page", .integer(1...1000), "Calls on a page, 50 unless said."),
                    .query("model", .text(255), "Only calls of this model."),
                    .query("status", .text(255), "Only calls that ended so."),
                    .query("date_from", .moment, "Not before this UTC day."),
                    .query("date_to", .moment, "Not after this UTC day."),
                ], answers: Paginator.schema(of: Schema.laravelLog), logs),
            Endpoint(
                .get, "/api/usage/analytics", .user, "Cost by day, the models used most, and this month.",
                answers: Schema.object([
                    "cost_trend": Schema.object([
                        "dates": Schema.list(Schema.string), "costs": Schema.list(Schema.number),
                    ]),
                    "top_models": Schema.list(Schema.object(["model": Schema.string, "usage_count": Schema.integer])),
                    "monthly_stats": Schema.object([
                        "api_calls": Schema.integer, "tokens_used": Schema.integer, "total_cost": Schema.number,
                    ]),
                ]), analytics),
            Endpoint(
                .post, "/api/usage/export", .user, "All calls as CSV.", [], answers: [("text/csv", Schema.string)],
                export),
            Endpoint(
                .get, "/api/usage/export", .user, "All calls as CSV.", [], answers: [("text/csv", Schema.string)],
                export),
        ]
    }

    @Sendable private func logs(_ call: Call) async throws -> Answer {
        let user = try call.user.id
        let (number, size) = (max(1, call.integer("page") ?? 1), call.integer("per_page") ?? 50)
        let (from, through) = (call.day("date_from"), call.day("date_to"))
        let (models, statuses) = (call.texts("model"), call.texts("status"))
        let page = try await database.snapshot { connection in
            try LogPage.read(
                of: user, number: number, size: size, models: models, statuses: statuses, from: from, through: through,
                connection)
        }
        let path = call.rootURL(isBehindProxies: isBehindProxies) + "/api/usage/logs"
        return .json(
            Paginator(path: path, number: number, size: size, total: page.total).json(page.rows.map(\.laravelJSON)))
    }

    @Sendable private func analytics(_ call: Call) async throws -> Answer {
        let user = try call.user.id
        let report = try await database.read { connection in
            try UsageSnapshot.take(connection) { try LaravelAnalytics(of: user, now: call.now, $0) }
        }
        return .json([
            "cost_trend": [
                "dates": .array(report.costTrend.map { .string($0.label) }),
                "costs": .array(report.costTrend.map { .number($0.cost.description) }),
            ],
            "top_models": .array(
                report.topModels.map { ["model": .string($0.name), "usage_count": .integer($0.calls)] }),
            "monthly_stats": [
                "api_calls": .integer(report.month.apiCalls), "tokens_used": .integer(report.month.tokensUsed),
                "total_cost": .number(report.month.totalCost.description),
            ],
        ])
    }

    @Sendable private func export(_ call: Call) async throws -> Answer {
        let user = try call.user.id
        let filter = LogFilter(userID: user)
        var answer = try database.export(to: user, as: "text/csv; charset=utf-8") { connection, pipe in
            try pipe.send(LaravelCSV.header)
            try LogStream.forEachBatch(filter, connection) { try pipe.send(LaravelCSV.lines($0)) }
        }
        answer.headers[.contentDisposition] = #"attachment; filename="usage_export.csv""#
        return answer
    }
}

extension Call {
    /// The UTC day of a date or time.
    func day(_ name: String) -> CalendarDate? { text(name).flatMap { CalendarDate(String($0.prefix(10))) } }

    /// How the client reached this service: scheme and host.
    func rootURL(isBehindProxies: Bool) -> String {
        let forwarded = isBehindProxies ? request.headers[.forwardedProto] : nil
        return "\(forwarded == "https" ? "https" : "http")://\(request.head.authority ?? "localhost")"
    }
}
