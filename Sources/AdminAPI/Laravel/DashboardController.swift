import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/dashboard`: what Laravel's dashboard page shows.
struct DashboardController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/dashboard/stats", .user, "Today's usage and the limits.",
                answers: Schema.object([
                    "today": Schema.object([
                        "api_calls": Schema.integer, "tokens_used": Schema.integer, "total_cost": Schema.number,
                        "avg_response_time": Schema.number,
                    ]), "rate_limits": Schema.laravelLimits,
                ]), stats),
            Endpoint(
                .get, "/api/dashboard/usage", .user, "The last 30 days by day and by model, and the last 50 calls.",
                answers: Schema.object([
                    "chart": Schema.object(["dates": Schema.list(Schema.string), "tokens": Schema.list(Schema.integer)]
                    ),
                    "model_distribution": Schema.object([
                        "models": Schema.list(Schema.string), "counts": Schema.list(Schema.integer),
                    ]), "recent_logs": Schema.list(Schema.laravelLog),
                ]), usage),
        ]
    }

    @Sendable private func stats(_ call: Call) async throws -> Answer {
        let user = try call.user.id
        let (today, limits) = try await database.read { connection in
            try UsageSnapshot.take(connection) { snapshot in
                (
                    try LaravelStats(of: user, now: call.now, snapshot),
                    try LimitStatus.read(user, snapshot.connection, now: call.now)
                )
            }
        }
        return .json([
            "today": [
                "api_calls": .integer(today.apiCalls), "tokens_used": .integer(today.tokensUsed),
                "total_cost": .number(today.totalCost.description),
                "avg_response_time": .number(today.averageResponseTime.jsonLiteral),
            ], "rate_limits": limits.laravelJSON,
        ])
    }

    @Sendable private func usage(_ call: Call) async throws -> Answer {
        let user = try call.user.id
        let (chart, calls) = try await database.read { connection in
            try UsageSnapshot.take(connection) { snapshot in
                (
                    try LaravelChart(of: user, now: call.now, snapshot),
                    try RecentCalls.list(of: user, snapshot.connection)
                )
            }
        }
        return .json([
            "chart": [
                "dates": .array(chart.days.map { .string($0.label) }),
                "tokens": .array(chart.days.map { .integer($0.tokens) }),
            ],
            "model_distribution": [
                "models": .array(chart.models.map { .string($0.name) }),
                "counts": .array(chart.models.map { .integer($0.calls) }),
            ], "recent_logs": .array(calls.map(\.laravelJSON)),
        ])
    }
}

extension Double {
    /// The shortest literal that reads back as the same number, whole numbers without a point.
    var jsonLiteral: String { self == rounded() && magnitude < 1e15 ? String(Int64(self)) : description }
}
