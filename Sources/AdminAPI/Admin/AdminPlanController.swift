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
                "APIResponse a wish. What is granted is set by the user's limits.", [.id()],
                body: Schema.closedBody(
                    ["granted": Schema.boolean], optional: ["note": Schema.optional(Schema.text(0...1000))]),
                answers: Schema.limitRequest, answer),
        ]
    }

    private func plans() async throws -> APIResponse {
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

    @Sendable private func set(_ request: APIRequest) async throws -> APIResponse {
        var limits: [QuotaPeriod: LimitAdministration.Limit] = [:]
        for period in QuotaPeriod.allCases {
            guard let window = request.body[period.rawValue] else { continue }
            guard let tokens = window["tokens"]?.wholeNumber, let requests = window["requests"]?.wholeNumber,
                tokens >= 0, requests >= 0
            else {
                throw ValidationError(
                    period.rawValue, "The \(period.rawValue) field must have tokens and requests of 0 or more.")
            }
            limits[period] = LimitAdministration.Limit(tokens: tokens, requests: requests)
        }
        let administration = LimitAdministration(by: try request.actor, at: request.now)
        let (plan, wanted) = (request.text("plan") ?? "", limits)
        try await database.read { try administration.set(wanted, plan: plan, $0) }
        return try await plans()
    }

    @Sendable private func requests(_ request: APIRequest) async throws -> APIResponse {
        let (user, cursor) = (request.integer("user_id").map(Int64.init), try request.idCursor())
        let requests = try await database.read {
            try LimitRequest.list(
                of: user, onlyOpen: request.flag("open"), before: cursor, limit: request.limit + 1, $0)
        }
        let page = requests.prefix(request.limit)
        return .page(page.map(\.json), next: requests.count > page.count ? page.last.map { ["\($0.id)"] } : nil)
    }

    @Sendable private func answer(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body,
            [RuledField("granted", .required, .boolean), RuledField("note", .nullable, .string, .maximum(1000))])
        let (id, isGranted, note) = (try request.id(), request.body["granted"] == true, request.body["note"]?.text)
        let administration = LimitAdministration(by: try request.actor, at: request.now)
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

/// `/api/v1/admin/models`: Laravel's list of models and prices, and the models whose cost of zero is a price.
struct AdminModelController: Sendable {
    let database: Database

    private static let fields = [
        RuledField("name", .required, .string, .minimum(1), .maximum(255)),
        RuledField("model_id", .required, .string, .minimum(1), .maximum(255)),
        RuledField("cost_per_1k_tokens", .required, .numeric, .minimum(0)),
        RuledField("availability", .boolean), RuledField("description", .nullable, .string),
    ]

    private static let body = Schema.closedBody(
        [
            "name": Schema.text(1...255), "model_id": Schema.text(1...255),
            "cost_per_1k_tokens": Schema.amount(below: 4),
        ], optional: ["availability": Schema.boolean, "description": Schema.optional(Schema.text())])

    private static let freeModels = Schema.object(["free_models": Schema.list(Schema.string)])

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/models", .admin, "Laravel's models, those that are not available included.",
                answers: Schema.list(Schema.laravelModel)
            ) { request in
                let user = try request.user.id
                let models = try await database.read { try LanguageModel.list(for: user, onlyAvailable: false, $0) }
                return .json(.array(models.map(\.laravelJSON)))
            },
            Endpoint(
                .post, "/api/v1/admin/models", .admin, "Add a model.", body: Self.body, status: .created,
                answers: Schema.object(["id": Schema.integer]), create),
            Endpoint(
                .put, "/api/v1/admin/models/{id}", .admin, "Replace what is known of a model.", [.id()],
                body: Self.body,
                answers: Schema.object(["id": Schema.integer]), update),
            Endpoint(
                .get, "/api/v1/admin/free-models", .admin, "Models whose cost of zero is a price.",
                answers: Self.freeModels
            ) { _ in try await freeModels() },
            Endpoint(
                .put, "/api/v1/admin/free-models", .admin, "Say whether a model's cost of zero is a price.",
                body: Schema.closedBody(["model": Schema.text(1...255), "is_free": Schema.boolean]),
                answers: Self.freeModels,
                setFree),
        ]
    }

    @Sendable private func create(_ request: APIRequest) async throws -> APIResponse {
        let (model, models) = (try Self.model(request), ModelAdministration(by: try request.actor, at: request.now))
        let id = try await database.read { try models.create(model, $0) }
        return .json(["id": .integer(id)], status: .created)
    }

    @Sendable private func update(_ request: APIRequest) async throws -> APIResponse {
        let (id, model) = (try request.id(), try Self.model(request))
        let models = ModelAdministration(by: try request.actor, at: request.now)
        try await database.read { try models.update(id, model, $0) }
        return .json(["id": .integer(id)])
    }

    @Sendable private func setFree(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body,
            [
                RuledField("model", .required, .string, .minimum(1), .maximum(255)),
                RuledField("is_free", .required, .boolean),
            ])
        let (model, isFree) = (request.body["model"]?.text ?? "", request.body["is_free"] == true)
        let models = ModelAdministration(by: try request.actor, at: request.now)
        try await database.read { try models.setFree(model, isFree, $0) }
        return try await freeModels()
    }

    private func freeModels() async throws -> APIResponse {
        let models = try await database.read { try ModelAdministration.freeModels($0) }
        return .json(["free_models": .array(models.map(JSON.string))])
    }

    private static func model(_ request: APIRequest) throws -> ModelAdministration.Model {
        let body = request.body
        try ValidationError.check(body, fields)
        guard let cost = body["cost_per_1k_tokens"]?.decimal.flatMap({ Cost($0) }) else {
            throw ValidationError("cost_per_1k_tokens", "The cost per 1k tokens field must be less than 10000.")
        }
        return ModelAdministration.Model(
            name: body["name"]?.text ?? "", modelID: body["model_id"]?.text ?? "", costPer1kTokens: cost,
            isAvailable: body["availability"] != false, description: body["description"]?.text)
    }
}
