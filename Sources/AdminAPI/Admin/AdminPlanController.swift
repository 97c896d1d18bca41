import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/plans` and `/api/v1/admin/limit-requests`: what plans allow, and who wants more.
struct AdminPlanController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/plans", .admin, "The plans and their limits.",
                answers: Schema.map(of: Schema.planLimits)
            ) { _ in try await plans() },
            Endpoint(
                .put, "/api/v1/admin/plans/{plan}", .admin, "Set a plan's limits; a window that is left out stays.",
                [.path("plan", "starter, pro or agency.")],
                body: Schema.closedBody([:], optional: ["daily": Schema.windowLimit, "monthly": Schema.windowLimit]),
                answers: Schema.map(of: Schema.planLimits), set),
            Endpoint(
                .get, "/api/v1/admin/limit-requests", .admin, "Wishes for higher limits, newest first.",
                [
                    .query("user_id", .integer(1...Int.max), "Of this user."),
                    .query("open", .flag, "Only those without an answer."),
                ] + Parameter.page,
                answers: Schema.page(of: Schema.limitRequest), requests),
            Endpoint(
                .post, "/api/v1/admin/limit-requests/{id}/answer", .admin,
                "Answer a wish. What is granted is set by the user's limits.", [.id()],
                body: Schema.closedBody(
                    ["granted": Schema.boolean], optional: ["note": Schema.optional(Schema.text(0...1000))]),
                answers: Schema.limitRequest, answer),
        ]
    }

    private func plans() async throws -> Answer {
        let plans = try await database.read { try LimitAdministration.plans($0) }
        return .json(
            .object(
                plans.sorted { $0.key < $1.key }.map { plan, windows in
                    .init(
                        plan,
                        .object(
                            QuotaPeriod.allCases.compactMap { period in
                                windows[period].map { .init(period.rawValue, $0.json) }
                            }))
                }))
    }

    @Sendable private func set(_ call: Call) async throws -> Answer {
        var limits: [QuotaPeriod: LimitAdministration.Limit] = [:]
        for period in QuotaPeriod.allCases {
            guard let window = call.body[period.rawValue] else { continue }
            guard let tokens = window["tokens"]?.wholeNumber, let requests = window["requests"]?.wholeNumber,
                tokens >= 0, requests >= 0
            else {
                throw ValidationError(
                    period.rawValue, "The \(period.rawValue) field must have tokens and requests of 0 or more.")
            }
            limits[period] = LimitAdministration.Limit(tokens: tokens, requests: requests)
        }
        let administration = LimitAdministration(by: try call.actor, at: call.now)
        let (plan, wanted) = (call.text("plan") ?? "", limits)
        try await database.read { try administration.set(wanted, plan: plan, $0) }
        return try await plans()
    }

    @Sendable private func requests(_ call: Call) async throws -> Answer {
        let (user, cursor) = (call.integer("user_id").map(Int64.init), try call.idCursor())
        let requests = try await database.read {
            try LimitRequest.list(
                of: user, onlyOpen: call.flag("open"), before: cursor, limit: call.limit + 1, $0)
        }
        let page = requests.prefix(call.limit)
        return .page(page.map(\.json), next: requests.count > page.count ? page.last.map { ["\($0.id)"] } : nil)
    }

    @Sendable private func answer(_ call: Call) async throws -> Answer {
        try ValidationError.check(
            call.body,
            [RuledField("granted", .required, .boolean), RuledField("note", .nullable, .string, .maximum(1000))])
        let (id, isGranted, note) = (try call.id(), call.body["granted"] == true, call.body["note"]?.text)
        let administration = LimitAdministration(by: try call.actor, at: call.now)
        let request = try await database.read {
            try administration.answer(id, isGranted: isGranted, note: note, $0)
        }
        return .json(request.json)
    }
}

extension LimitAdministration.Limit {
    fileprivate var json: JSON { ["tokens": .integer(tokens), "requests": .integer(requests)] }
}

extension Schema {
    fileprivate static let windowLimit = object(["tokens": integer(0...Int.max), "requests": integer(0...Int.max)])
    fileprivate static let planLimits = object(["daily": windowLimit, "monthly": windowLimit])
}
