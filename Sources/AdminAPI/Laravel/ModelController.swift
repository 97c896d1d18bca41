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
            ) { call in
                let user = try call.user.id
                let models = try await database.read { try LanguageModel.list(for: user, $0) }
                return .json(.array(models.map(\.laravelJSON)))
            },
            Endpoint(
                .post, "/api/models/favorite", .user, "Favour a model.",
                body: Schema.body(["model_id": Schema.integer(1...Int.max)]), answers: Schema.message, favor),
        ]
    }

    @Sendable private func favor(_ call: Call) async throws -> Answer {
        try ValidationError.check(call.body, [RuledField("model_id", .required)])
        let user = try call.user.id
        guard let model = call.body["model_id"]?.wholeNumber,
            try await database.read({ try LanguageModel.favor(model, by: user, $0, now: call.now) })
        else { throw ValidationError("model_id", "The selected model id is invalid.") }
        return .message("Model favorited successfully")
    }
}
