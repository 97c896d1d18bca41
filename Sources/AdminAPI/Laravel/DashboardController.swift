import Analytics
import Domain
import HTTPSupport
import Storage

/// `/api/dashboard`: Laravel's dashboard page.
struct DashboardController: Sendable {
    let database: Database

    private static let today = JSONType<LaravelStats>.object(
        "DashboardToday",
        [
            Field("api_calls", .integer, \.apiCalls), Field("tokens_used", .integer, \.tokensUsed),
            Field("total_cost", .moneyNumber, \.totalCost), Field("avg_response_time", .number, \.averageResponseTime),
        ])

    private static let stats = JSONType<(today: LaravelStats, limits: [LimitStatus])>.object(
        "DashboardStats",
        [Field("today", today, \.today), Field("rate_limits", LimitStatus.laravelJSON, \.limits)])

    private static let usage = JSONType<(chart: LaravelChart, logs: [LogRow])>.object(
        "DashboardUsage",
        [
            Field("chart", chart, \.chart.days), Field("model_distribution", models, \.chart.models),
            Field("recent_logs", .list(LogRow.laravelJSON), \.logs),
        ])

    private static let chart = JSONType<[LaravelChart.Day]>.object(
        "DashboardChart",
        [
            Field("dates", .list(.string)) { $0.map(\.label) }, Field("tokens", .list(.integer)) { $0.map(\.tokens) },
        ])

    private static let models = JSONType<[LaravelChart.Model]>.object(
        "DashboardModels",
        [Field("models", .list(.string)) { $0.map(\.name) }, Field("counts", .list(.integer)) { $0.map(\.calls) }])

    var getDashboardStats: Operation {
        Operation("Today's usage and the limits.", returns: Self.stats) { request in
            let user = try request.user.id
            return try await database.read { connection in
                try ReportSnapshot.take(connection) { snapshot in
                    (
                        try LaravelStats.read(of: user, now: request.now, on: snapshot),
                        try LimitStatus.read(user, snapshot.connection, now: request.now)
                    )
                }
            }
        }
    }

    var getDashboardUsage: Operation {
        Operation("The last 30 days by day and by model, and the last 50 logs.", returns: Self.usage) { request in
            let user = try request.user.id
            return try await database.read { connection in
                try ReportSnapshot.take(connection) { snapshot in
                    (
                        try LaravelChart.read(of: user, now: request.now, on: snapshot),
                        try RecentCalls.list(of: user, on: snapshot.connection)
                    )
                }
            }
        }
    }
}

/// `/api/rate-limits`: what is left, and requests for more.
struct RateLimitController: Sendable {
    let database: Database

    var getRateLimits: Operation {
        Operation("The limits and what is left.", returns: LimitStatus.laravelJSON) { request in
            let user = try request.user.id
            return try await database.read { try LimitStatus.read(user, $0, now: request.now) }
        }
    }

    var requestIncrease: Operation {
        let periods = QuotaPeriod.allCases.map(\.rawValue)
        return Operation(
            "Ask an administrator for higher limits.",
            body: Schema.body(["period": Schema.choice(periods), "reason": Schema.text(1...500)])
                .named("NewLimitRequest"), returns: Message.json
        ) { request in
            try ValidationError.check(
                request.body,
                [
                    RuledField("period", .required, .choice(periods)),
                    RuledField("reason", .required, .string, .maximum(500)),
                ])
            let user = try request.user.id
            let period = request.body["period"]?.text.flatMap(QuotaPeriod.init(rawValue:)) ?? .monthly
            let reason = request.body["reason"]?.text
            try await database.read { try LimitRequest.insert(for: user, period, reason: reason, $0, now: request.now) }
            return Message(text: "Your request has been submitted. We will review it shortly.")
        }
    }
}

/// `/api/models`: available models and the user's favourites.
struct ModelController: Sendable {
    let database: Database

    var listModels: Operation {
        Operation("The available models.", returns: .list(LanguageModel.laravelJSON)) { request in
            let user = try request.user.id
            return try await database.read { try LanguageModel.list(for: user, $0) }
        }
    }

    var favorModel: Operation {
        Operation(
            "Add a model to the favourites.",
            body: Schema.body(["model_id": Schema.integer(1...Int.max)]).named("NewFavorite"), returns: Message.json
        ) { request in
            try ValidationError.check(request.body, [RuledField("model_id", .required)])
            let user = try request.user.id
            guard let model = request.body["model_id"]?.wholeNumber,
                try await database.read({ try LanguageModel.favor(model, by: user, $0, now: request.now) })
            else { throw ValidationError("model_id", "The selected model id is invalid.") }
            return Message(text: "Model favorited successfully")
        }
    }
}
