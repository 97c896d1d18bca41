import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/auth`: register, log in, log out, who am I.
struct AuthController: Sendable {
    let database: Database
    let strangers: Strangers

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
            ).refusing(strangers.registration == .off ? Self.registrationIsOff : nil),
            Endpoint(
                .post, "/api/auth/login", .anyone, "Make a token by e-mail and password.",
                body: Schema.body(["email": Schema.email, "password": Schema.text(from: 1)]),
                answers: Schema.object(["user": Schema.laravelUser, "token": Schema.string]), logIn),
            Endpoint(
                .post, "/api/auth/logout", .user, "End the token that asks.", answers: Schema.message, logOut
            ).needing(nil),
            Endpoint(.get, "/api/auth/me", .user, "Who asks.", answers: Schema.laravelUser) { call in
                .json(try call.user.laravelJSON)
            },
        ]
    }

    private static let registrationIsOff = AppError(
        .forbidden,
        "Registration is switched off. Ask the operator for an account; ADMIN_REGISTRATION lets people make their own.")
    private static let emailTaken = "The email has already been taken."

    @Sendable private func register(_ call: Call) async throws -> Answer {
        try ValidationError.check(
            call.body,
            [
                RuledField("name", .required, .string, .maximum(255)),
                RuledField("email", .required, .string, .email, .maximum(255)),
                RuledField("password", .required, .string, .minimum(8), .confirmed),
            ])
        guard let name = call.body["name"]?.text, let email = call.body["email"]?.text,
            let password = call.body["password"]?.text
        else { throw ValidationError() }
        try strangers.throttle.admitRegistration(email, from: call.context.clientAddress)
        // Before it is known whether the e-mail is taken. Laravel's answer says so, but who asks pays as for an
        // account, and where there was none has made one.
        let hash = try await strangers.hash(password, for: call)
        let account = UserAccounts.NewAccount(
            name: name, email: email, passwordHash: hash, apiKey: APIKey.random(), plan: "starter", isAdmin: false)
        do {
            let isVerified = strangers.registration == .open
            let form = strangers.tokenForm
            let (user, token) = try await database.read { connection in
                let id = try Registration.create(account, isVerified: isVerified, connection, now: call.now)
                return (
                    try UserProfile.require(id, connection),
                    try AccessToken.create(for: id, connection, now: call.now, form: form)
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

    @Sendable private func logIn(_ call: Call) async throws -> Answer {
        try ValidationError.check(
            call.body, [RuledField("email", .required, .email), RuledField("password", .required, .string)])
        guard let email = call.body["email"]?.text, let password = call.body["password"]?.text else {
            throw ValidationError()
        }
        try strangers.throttle.admitLogin(email, from: call.context.clientAddress)
        let found = try await database.read { try UserProfile.findForLogin(email: email, $0) }
        // An unknown e-mail takes as long as a wrong password: nobody learns who has an account.
        let isRight = try await strangers.verify(password, against: found?.passwordHash, for: call)
        guard let user = found?.user, isRight else {
            throw ValidationError("email", "The provided credentials are incorrect.")
        }
        guard user.isActive else { throw ValidationError("email", "Your account has been suspended.") }
        let form = strangers.tokenForm
        let token = try await database.read { try AccessToken.create(for: user.id, $0, now: call.now, form: form) }
        return .json(["user": user.laravelJSON, "token": .string(token)])
    }

    @Sendable private func logOut(_ call: Call) async throws -> Answer {
        // A session is Laravel's to end.
        if case .token(let id)? = call.caller?.proof {
            try await database.read { try AccessToken.delete(id, $0) }
        }
        return .message("Logged out successfully")
    }
}
