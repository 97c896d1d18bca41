import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/settings`: a user's own account and key.
struct SettingsController: Sendable {
    let database: Database
    let throttle: LoginThrottle

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/settings", .user, "The account and its key.",
                answers: Schema.object(["user": Schema.laravelUser, "api_key": Schema.optional(Schema.string)])
            ) { call in
                let user = try call.user
                let key = try await database.read { try UserProfile.key(of: user.id, $0) }
                var answer = Answer.json(["user": user.laravelJSON, "api_key": key.json])
                answer.holdsSecret = true
                return answer
            }.needing(.key),
            Endpoint(
                .post, "/api/settings/api-key/regenerate", .user,
                "Replace the key; calls made under the old one still count.",
                answers: Schema.object(["message": Schema.string, "api_key": Schema.string])
            ) { call in
                let (user, key) = (try call.user, APIKey.random())
                _ = try await database.read {
                    try UserAccounts.rotateKey(user.id, to: key, $0, now: call.now)
                }
                return .json(["message": "API key regenerated successfully", "api_key": .string(key)])
            }.needing(.key),
            Endpoint(
                .post, "/api/settings/update", .user, "Change name or e-mail.",
                body: Schema.body([:], optional: ["name": Schema.text(1...255), "email": Schema.email]),
                answers: Schema.object(["message": Schema.string, "user": Schema.laravelUser]), update),
        ]
    }

    @Sendable private func update(_ call: Call) async throws -> Answer {
        try ValidationError.check(call.body, [RuledField("name", .string, .maximum(255)), RuledField("email", .email)])
        // Laravel forgot this one, and answered 500.
        try ValidationError.check(call.body, [RuledField("email", .maximum(255))])
        let (id, name, email) = (try call.user.id, call.body["name"]?.text, call.body["email"]?.text)
        if let email, email != (try call.user.email) { try throttle.admitChange(by: id) }
        do {
            let user = try await database.read {
                try UserProfile.update(id, .init(name: name, email: email), $0, now: call.now)
            }
            return .json(["message": "Settings updated successfully", "user": user.laravelJSON])
        } catch let error as AppError where error.code == .conflict {
            throw ValidationError("email", "The email has already been taken.")
        }
    }
}
