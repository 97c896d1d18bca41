import Domain
import HTTPSupport
import HTTPTypes
import Storage

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
            ) { call in
                let user = try call.user.id
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

    @Sendable private func create(_ call: Call) async throws -> Answer {
        let (model, models) = (try Self.model(call), ModelAdministration(by: try call.actor, at: call.now))
        let id = try await database.read { try models.create(model, $0) }
        return .json(["id": .integer(id)], status: .created)
    }

    @Sendable private func update(_ call: Call) async throws -> Answer {
        let (id, model) = (try call.id(), try Self.model(call))
        let models = ModelAdministration(by: try call.actor, at: call.now)
        try await database.read { try models.update(id, model, $0) }
        return .json(["id": .integer(id)])
    }

    @Sendable private func setFree(_ call: Call) async throws -> Answer {
        try ValidationError.check(
            call.body,
            [
                RuledField("model", .required, .string, .minimum(1), .maximum(255)),
                RuledField("is_free", .required, .boolean),
            ])
        let (model, isFree) = (call.body["model"]?.text ?? "", call.body["is_free"] == true)
        let models = ModelAdministration(by: try call.actor, at: call.now)
        try await database.read { try models.setFree(model, isFree, $0) }
        return try await freeModels()
    }

    private func freeModels() async throws -> Answer {
        let models = try await database.read { try ModelAdministration.freeModels($0) }
        return .json(["free_models": .array(models.map(JSON.string))])
    }

    private static func model(_ call: Call) throws -> ModelAdministration.Model {
        let body = call.body
        try ValidationError.check(body, fields)
        guard let cost = body["cost_per_1k_tokens"]?.decimal.flatMap({ Cost($0) }) else {
            throw ValidationError("cost_per_1k_tokens", "The cost per 1k tokens field must be less than 10000.")
        }
        return ModelAdministration.Model(
            name: body["name"]?.text ?? "", modelID: body["model_id"]?.text ?? "", costPer1kTokens: cost,
            isAvailable: body["availability"] != false, description: body["description"]?.text)
    }
}
