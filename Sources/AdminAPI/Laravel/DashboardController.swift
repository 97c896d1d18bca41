import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/models`: the models there are, and which a user favours.
struct ModelController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/models", .user, "The models that can be used.", answers: Schema.list(Schema.laravelModel)
            ) { request in
                let user = try request.user.id
                let models = try await database.read { try LanguageModel.list(for: user, $0) }
                return .json(.array(models.map(\.laravelJSON)))
            },
            Endpoint(
                .post, "/api/models/favorite", .user, "Favour a model.",
                body: Schema.body(["model_id": Schema.integer(1...Int.max)]), answers: Schema.message, favor),
        ]
    }

    @Sendable private func favor(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(request.body, [RuledField("model_id", .required)])
        let user = try request.user.id
        guard let model = request.body["model_id"]?.wholeNumber,
            try await database.read({ try LanguageModel.favor(model, by: user, $0, now: request.now) })
        else { throw ValidationError("model_id", "The selected model id is invalid.") }
        return .message("Model favorited successfully")
    }
}

/// `/api/rate-limits`: what is left, and the wish for more.
struct RateLimitController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(.get, "/api/rate-limits", .user, "The limits and what is left.", answers: Schema.laravelLimits) {
                request in
                let user = try request.user.id
                return .json(
                    try await database.read { try LimitStatus.read(user, $0, now: request.now) }.laravelJSON)
            },
            Endpoint(
                .post, "/api/rate-limits/request-increase", .user, "Ask an administrator for higher limits.",
                body: Schema.body(
                    [
                        "period": Schema.choice(QuotaPeriod.allCases.map(\.rawValue)), "reason": Schema.text(1...500),
                    ]),
                answers: Schema.message, requestIncrease),
        ]
    }

    @Sendable private func requestIncrease(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body,
            [
                RuledField("period", .required, .choice(QuotaPeriod.allCases.map(\.rawValue))),
                RuledField("reason", .required, .string, .maximum(500)),
            ])
        let user = try request.user.id
        let period = request.body["period"]?.text.flatMap(QuotaPeriod.init(rawValue:)) ?? .monthly
        let reason = request.body["reason"]?.text
        try await database.read { try LimitRequest.insert(for: user, period, reason: reason, $0, now: request.now) }
        return .message("Your request has been submitted. We will review it shortly.")
    }
}

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

    @Sendable private func stats(_ request: APIRequest) async throws -> APIResponse {
        let user = try request.user.id
        let (today, limits) = try await database.read { connection in
            try UsageSnapshot.take(connection) { snapshot in
                (
                    try LaravelStats(of: user, now: request.now, snapshot),
                    try LimitStatus.read(user, snapshot.connection, now: request.now)
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

    @Sendable private func usage(_ request: APIRequest) async throws -> APIResponse {
        let user = try request.user.id
        let (chart, calls) = try await database.read { connection in
            try UsageSnapshot.take(connection) { snapshot in
                (
                    try LaravelChart(of: user, now: request.now, snapshot),
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
