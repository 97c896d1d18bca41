import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/plans` and `/api/v1/admin/limit-requests`: the limits of plans, and requests for higher ones.
struct AdminPlanController: Sendable {
    let database: Database

    private static let limit = JSONType<LimitAdministration.Limit>.object(
        "PlanLimit",
        [
            Field("tokens", .integer, example: 100_000, \.tokens),
            Field("requests", .integer, example: 1_000, \.requests),
        ])

    /// The limits of each plan, by its name.
    private static let plans: JSONType<[(key: String, value: [QuotaPeriod: LimitAdministration.Limit])]> = .map(
        of: .object("Plan", QuotaPeriod.allCases.map { period in .optional(period.rawValue, limit) { $0[period] } }))

    private static let newLimit = Schema.closedBody([
        "tokens": Schema.integer(0...Int.max), "requests": Schema.integer(0...Int.max),
    ]).named("NewPlanLimit")

    var listPlans: Operation {
        Operation("The plans and their limits.", returns: Self.plans) { _ in try await plans() }
    }

    var setPlanLimits: Operation {
        Operation(
            "Set a plan's limits. A window that is left out stays.",
            [.path("plan", "starter, pro or agency.", example: "pro")],
            body: Schema.closedBody([:], optional: ["daily": Self.newLimit, "monthly": Self.newLimit])
                .named("PlanChange"), returns: Self.plans
        ) { request in
            var limits: [QuotaPeriod: LimitAdministration.Limit] = [:]
            var errors = ValidationError()
            for period in QuotaPeriod.allCases {
                guard let window = request.body[period.rawValue] else { continue }
                limits[period] = LimitAdministration.Limit(
                    tokens: Self.amount("tokens", of: window, period, &errors),
                    requests: Self.amount("requests", of: window, period, &errors))
            }
            guard errors.isEmpty else { throw errors }
            let administration = LimitAdministration(by: try request.actor, at: request.now)
            let (plan, wanted) = (request.text("plan") ?? "", limits)
            try await database.read { try administration.set(wanted, plan: plan, $0) }
            return try await plans()
        }
    }

    private static func amount(
        _ name: String, of window: JSON, _ period: QuotaPeriod, _ errors: inout ValidationError
    ) -> Int64 {
        if let amount = window[name]?.wholeNumber, amount >= 0 { return amount }
        let path = "\(period.rawValue).\(name)"
        errors.add(path, ["The \(path) field must be a whole number of 0 or more."])
        return 0
    }

    private func plans() async throws -> [(key: String, value: [QuotaPeriod: LimitAdministration.Limit])] {
        try await database.read { try LimitAdministration.plans($0) }.sorted { $0.key < $1.key }
            .map { ($0.key, $0.value) }
    }

    var listLimitRequests: Operation {
        Operation(
            "Requests for higher limits, newest first.",
            [
                .query("user_id", .integer(1...Int.max), "Only this user."),
                .query("open", .flag, "Only requests without an answer."),
            ] + Parameter.page, returns: .page("LimitRequestPage", of: LimitRequest.json)
        ) { request in
            let (user, cursor) = (request.integer("user_id").map(Int64.init), try request.idCursor())
            let requests = try await database.read {
                try LimitRequest.list(
                    of: user, onlyOpen: request.flag("open"), before: cursor, limit: request.limit + 1, $0)
            }
            return Page(requests, limit: request.limit) { ["\($0.id)"] }
        }
    }

    var answerLimitRequest: Operation {
        Operation(
            "Answer a request. The granted limit itself is set with the user's limits.", [.id()],
            body: Schema.closedBody(
                ["granted": Schema.boolean], optional: ["note": Schema.optional(Schema.text(0...1000))]
            ).named("NewLimitRequestAnswer"), returns: LimitRequest.json
        ) { request in
            try ValidationError.check(
                request.body,
                [RuledField("granted", .required, .boolean), RuledField("note", .nullable, .string, .maximum(1000))])
            let (id, isGranted) = (try request.id(), request.body["granted"] == true)
            let note = request.body["note"]?.text
            let administration = LimitAdministration(by: try request.actor, at: request.now)
            return try await database.read { try administration.answer(id, isGranted: isGranted, note: note, $0) }
        }
    }
}

/// `/api/v1/admin/models` and `/api/v1/admin/free-models`: Laravel's models and prices, and models that cost nothing.
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
            "name": Schema.text(1...255).withExample("GPT-4o"), "model_id": Schema.text(1...255).withExample("gpt-4o"),
            "cost_per_1k_tokens": Schema.amount(below: 4),
        ], optional: ["availability": Schema.boolean, "description": Schema.optional(Schema.text())]
    ).named("NewModel")

    private static let id = JSONType<Int64>.object("ModelID", [Field("id", .integer) { $0 }])
    private static let freeModels = JSONType<[String]>.object(
        "FreeModelList", [Field("free_models", .list(.string)) { $0 }])

    var listAllModels: Operation {
        Operation("Laravel's models, unavailable ones included.", returns: .list(LanguageModel.laravelJSON)) {
            request in
            let user = try request.user.id
            return try await database.read { try LanguageModel.list(for: user, onlyAvailable: false, $0) }
        }
    }

    var createModel: Operation {
        Operation("Add a model.", body: Self.body, status: .created, returns: Self.id) { request in
            let model = try Self.model(request)
            let models = ModelAdministration(by: try request.actor, at: request.now)
            return try await database.read { try models.create(model, $0) }
        }
    }

    var updateModel: Operation {
        Operation("Replace a model's fields.", [.id()], body: Self.body, returns: Self.id) { request in
            let (id, model) = (try request.id(), try Self.model(request))
            let models = ModelAdministration(by: try request.actor, at: request.now)
            try await database.read { try models.update(id, model, $0) }
            return id
        }
    }

    var listFreeModels: Operation {
        Operation("Models whose cost of zero is a price.", returns: Self.freeModels) { _ in
            try await database.read { try ModelAdministration.freeModels($0) }
        }
    }

    var setFreeModel: Operation {
        Operation(
            "Set whether a model's cost of zero is a price.",
            body: Schema.closedBody([
                "model": Schema.text(1...255).withExample("ollama/llama3"), "is_free": Schema.boolean,
            ]).named("FreeModelChange"), returns: Self.freeModels
        ) { request in
            try ValidationError.check(
                request.body,
                [
                    RuledField("model", .required, .string, .minimum(1), .maximum(255)),
                    RuledField("is_free", .required, .boolean),
                ])
            let (model, isFree) = (request.body["model"]?.text ?? "", request.body["is_free"] == true)
            let models = ModelAdministration(by: try request.actor, at: request.now)
            try await database.read { try models.setFree(model, isFree, $0) }
            return try await database.read { try ModelAdministration.freeModels($0) }
        }
    }

    private static func model(_ request: APIRequest) throws -> ModelAdministration.Model {
        let body = request.body
        try ValidationError.check(body, fields)
        guard let cost = body["cost_per_1k_tokens"]?.decimal.flatMap({ Cost($0) }), !cost.isSaturated else {
            throw ValidationError("cost_per_1k_tokens", "The cost per 1k tokens field must be less than 10000.")
        }
        return ModelAdministration.Model(
            name: body["name"]?.text ?? "", modelID: body["model_id"]?.text ?? "", costPer1kTokens: cost,
            isAvailable: body["availability"] != false, description: body["description"]?.text)
    }
}
