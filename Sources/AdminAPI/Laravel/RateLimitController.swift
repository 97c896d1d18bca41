import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/rate-limits`: what is left, and the wish for more.
struct RateLimitController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(.get, "/api/rate-limits", .user, "The limits and what is left.", answers: Schema.laravelLimits) {
                call in
                let user = try call.user.id
                return .json(
                    try await database.read { try LimitStatus.read(user, $0, now: call.now) }.laravelJSON)
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

    @Sendable private func requestIncrease(_ call: Call) async throws -> Answer {
        try ValidationError.check(
            call.body,
            [
                RuledField("period", .required, .choice(QuotaPeriod.allCases.map(\.rawValue))),
                RuledField("reason", .required, .string, .maximum(500)),
            ])
        let user = try call.user.id
        let period = call.body["period"]?.text.flatMap(QuotaPeriod.init(rawValue:)) ?? .monthly
        let reason = call.body["reason"]?.text
        try await database.read { try LimitRequest.insert(for: user, period, reason: reason, $0, now: call.now) }
        return .message("Your request has been submitted. We will review it shortly.")
    }
}
