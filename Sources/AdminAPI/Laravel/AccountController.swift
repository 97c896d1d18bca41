import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/auth`: register, log in, log out, who am I.
struct AuthController: Sendable {
    let database: Database
    let signIn: SignInPolicy

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .post, "/api/auth/register", .anyone, "Make an account and a token.",
                body: Schema.body([
                    "name": Schema.text(1...255), "email": Schema.email, "password": Schema.text(from: 8),
                    "password_confirmation": Schema.text(from: 8),
                ]),
                status: .created,
                answers: Schema.object([
                    "user": Schema.object([
                        "name": Schema.string, "email": Schema.string, "updated_at": Schema.time,
                        "created_at": Schema.time, "id": Schema.integer,
                    ]), "token": Schema.string,
                ]), register
            ).refusing(signIn.registration == .off ? Self.registrationIsOff : nil),
            Endpoint(
                .post, "/api/auth/login", .anyone, "Make a token by e-mail and password.",
                body: Schema.body(["email": Schema.email, "password": Schema.text(from: 1)]),
                answers: Schema.object(["user": Schema.laravelUser, "token": Schema.string]), logIn),
            Endpoint(
                .post, "/api/auth/logout", .user, "End the token that asks.", answers: Schema.message, logOut
            ).needing(nil),
            Endpoint(.get, "/api/auth/me", .user, "Who asks.", answers: Schema.laravelUser) { request in
                .json(try request.user.laravelJSON)
            },
        ]
    }

    private static let registrationIsOff = AppError(
        .forbidden,
        "Registration is switched off. Ask the operator for an account; ADMIN_REGISTRATION lets people make their own.")
    private static let emailTaken = "The email has already been taken."

    @Sendable private func register(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body,
            [
                RuledField("name", .required, .string, .maximum(255)),
                RuledField("email", .required, .string, .email, .maximum(255)),
                RuledField("password", .required, .string, .minimum(8), .confirmed),
            ])
        guard let name = request.body["name"]?.text, let email = request.body["email"]?.text,
            let password = request.body["password"]?.text
        else { throw ValidationError() }
        try signIn.throttle.admitRegistration(email, from: request.context.clientAddress)
        // Before it is known whether the e-mail is taken. Laravel's answer says so, but who asks pays as for an
        // account, and where there was none has made one.
        let hash = try await signIn.hash(password, for: request)
        let account = UserAccounts.NewAccount(
            name: name, email: email, passwordHash: hash, apiKey: APIKey.random(), plan: "starter", isAdmin: false)
        do {
            let isVerified = signIn.registration == .open
            let form = signIn.tokenForm
            let (user, token) = try await database.read { connection in
                let id = try Registration.create(account, isVerified: isVerified, connection, now: request.now)
                return (
                    try UserProfile.require(id, connection),
                    try AccessToken.create(for: id, connection, now: request.now, form: form)
                )
            }
            return .json(
                [
                    "user": [
                        "name": .string(user.name), "email": .string(user.email),
                        "updated_at": user.updatedAt.laravelJSON, "created_at": user.createdAt.laravelJSON,
                        "id": .integer(user.id),
                    ], "token": .string(token),
                ], status: .created)
        } catch let error as AppError where error.code == .conflict {
            throw ValidationError("email", Self.emailTaken)
        }
    }

    @Sendable private func logIn(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body, [RuledField("email", .required, .email), RuledField("password", .required, .string)])
        guard let email = request.body["email"]?.text, let password = request.body["password"]?.text else {
            throw ValidationError()
        }
        try signIn.throttle.admitLogin(email, from: request.context.clientAddress)
        let found = try await database.read { try UserProfile.findForLogin(email: email, $0) }
        // An unknown e-mail takes as long as a wrong password: nobody learns who has an account.
        let isRight = try await signIn.verify(password, against: found?.passwordHash, for: request)
        guard let user = found?.user, isRight else {
            throw ValidationError("email", "The provided credentials are incorrect.")
        }
        guard user.isActive else { throw ValidationError("email", "Your account has been suspended.") }
        let form = signIn.tokenForm
        let token = try await database.read { try AccessToken.create(for: user.id, $0, now: request.now, form: form) }
        return .json(["user": user.laravelJSON, "token": .string(token)])
    }

    @Sendable private func logOut(_ request: APIRequest) async throws -> APIResponse {
        // A session is Laravel's to end.
        if case .token(let id)? = request.caller?.proof {
            try await database.read { try AccessToken.delete(id, $0) }
        }
        return .message("Logged out successfully")
    }
}

/// `/api/settings`: a user's own account and key.
struct SettingsController: Sendable {
    let database: Database
    let throttle: LoginThrottle

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/settings", .user, "The account and its key.",
                answers: Schema.object(["user": Schema.laravelUser, "api_key": Schema.optional(Schema.string)])
            ) { request in
                let user = try request.user
                let key = try await database.read { try UserProfile.key(of: user.id, $0) }
                var answer = APIResponse.json(["user": user.laravelJSON, "api_key": key.json])
                answer.holdsSecret = true
                return answer
            }.needing(.key),
            Endpoint(
                .post, "/api/settings/api-key/regenerate", .user,
                "Replace the key; calls made under the old one still count.",
                answers: Schema.object(["message": Schema.string, "api_key": Schema.string])
            ) { request in
                let (user, key) = (try request.user, APIKey.random())
                _ = try await database.read {
                    try UserAccounts.rotateKey(user.id, to: key, $0, now: request.now)
                }
                return .json(["message": "API key regenerated successfully", "api_key": .string(key)])
            }.needing(.key),
            Endpoint(
                .post, "/api/settings/update", .user, "Change name or e-mail.",
                body: Schema.body([:], optional: ["name": Schema.text(1...255), "email": Schema.email]),
                answers: Schema.object(["message": Schema.string, "user": Schema.laravelUser]), update),
        ]
    }

    @Sendable private func update(_ request: APIRequest) async throws -> APIResponse {
        try ValidationError.check(
            request.body, [RuledField("name", .string, .maximum(255)), RuledField("email", .email)])
        // Laravel forgot this one, and answered 500.
        try ValidationError.check(request.body, [RuledField("email", .maximum(255))])
        let (id, name, email) = (try request.user.id, request.body["name"]?.text, request.body["email"]?.text)
        if let email, email != (try request.user.email) { try throttle.admitChange(by: id) }
        do {
            let user = try await database.read {
                try UserProfile.update(id, .init(name: name, email: email), $0, now: request.now)
            }
            return .json(["message": "Settings updated successfully", "user": user.laravelJSON])
        } catch let error as AppError where error.code == .conflict {
            throw ValidationError("email", "The email has already been taken.")
        }
    }
}
