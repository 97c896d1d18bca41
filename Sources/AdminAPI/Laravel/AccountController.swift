import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/auth`: register, log in, log out, the caller's account.
struct AuthController: Sendable {
    let database: Database
    let signIn: SignInPolicy

    private static let registrationIsOff = AppError(
        .forbidden,
        "Registration is switched off. Ask the operator for an account; ADMIN_REGISTRATION lets people make their own.")

    private static let newUser = JSONType<UserProfile>.object(
        "LaravelNewUser",
        [
            Field("name", .string, example: "Ada", \.name),
            Field("email", .string, example: "ada@example.com", \.email),
            Field("updated_at", .nullable(.laravelTime), \.updatedAt),
            Field("created_at", .nullable(.laravelTime), \.createdAt), Field("id", .integer, \.id),
        ])

    private static func session(
        _ name: String, _ user: JSONType<UserProfile>
    ) -> JSONType<(user: UserProfile, token: String)> {
        .object(name, [Field("user", user, \.user), Field("token", .string, example: "7|abc", \.token)])
    }

    var register: Operation {
        let password = Schema.text(from: 8).withExample("correct horse")
        return Operation(
            "Create an account and a token.",
            body: Schema.body([
                "name": Schema.text(1...255).withExample("Ada"), "email": Schema.email, "password": password,
                "password_confirmation": password,
            ]).named("NewRegistration"), status: .created, returns: Self.session("Registration", Self.newUser)
        ) { try await register($0) }
        .refusing(signIn.registration == .off ? Self.registrationIsOff : nil)
    }

    private func register(_ request: APIRequest) async throws -> (user: UserProfile, token: String) {
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
        // Hash before looking for the e-mail. Laravel's answer reveals whether it is taken, so each probe costs as much
        // as an account, and makes one where the e-mail is free.
        let hash = try await signIn.hash(password, for: request.context)
        let account = UserAccounts.NewAccount(
            name: name, email: email, passwordHash: hash, apiKey: APIKey.random(), plan: "starter", isAdmin: false)
        let (isVerified, form) = (signIn.registration == .open, signIn.tokenForm)
        do {
            return try await database.read { connection in
                let id = try Registration.create(account, isVerified: isVerified, connection, now: request.now)
                return (
                    try UserProfile.require(id, connection),
                    try AccessToken.create(for: id, connection, now: request.now, form: form)
                )
            }
        } catch let error as AppError where error.cause == .emailTaken {
            throw ValidationError("email", "The email has already been taken.")
        }
    }

    var logIn: Operation {
        Operation(
            "Create a token by e-mail and password.",
            body: Schema.body(["email": Schema.email, "password": Schema.text(from: 1)]).named("Credentials"),
            returns: Self.session("Login", UserProfile.laravelJSON)
        ) { request in
            try ValidationError.check(
                request.body, [RuledField("email", .required, .email), RuledField("password", .required, .string)])
            guard let email = request.body["email"]?.text, let password = request.body["password"]?.text else {
                throw ValidationError()
            }
            let user: UserProfile
            do {
                user = try await signIn.user(email: email, password: password, from: request.context, database)
            } catch let refusal as SignInRefusal {
                throw refusal.laravelError
            }
            let form = signIn.tokenForm
            let token = try await database.read {
                try AccessToken.create(for: user.id, $0, now: request.now, form: form)
            }
            return (user, token)
        }
    }

    var logOut: Operation {
        Operation("Delete the token of the request.", returns: Message.json) { request in
            // Only Laravel can end a session.
            if case .token(let id)? = request.caller?.proof {
                try await database.read { try AccessToken.delete(id, $0) }
            }
            return Message(text: "Logged out successfully")
        }
    }

    var getAccount: Operation {
        Operation("The caller's account.", returns: UserProfile.laravelJSON) { try $0.user }
    }
}

/// `/api/settings`: the caller's own account and API key.
struct SettingsController: Sendable {
    let database: Database
    let throttle: LoginThrottle

    private static let settings = JSONType<(user: UserProfile, key: String?)>.object(
        "Settings",
        [
            Field("user", UserProfile.laravelJSON, \.user),
            Field("api_key", .nullable(.string), example: "cf_1a2b3c", \.key),
        ])

    private static let replacedKey = JSONType<String>.object(
        "ReplacedKey",
        [
            Field("message", .string) { _ in "API key regenerated successfully" },
            Field("api_key", .string, example: "cf_1a2b3c") { $0 },
        ])

    private static let updatedUser = JSONType<UserProfile>.object(
        "UpdatedSettings",
        [
            Field("message", .string) { _ in "Settings updated successfully" },
            Field("user", UserProfile.laravelJSON) { $0 },
        ])

    var getSettings: Operation {
        Operation("The account and its API key.", returns: Self.settings, holdsSecret: true) { request in
            let user = try request.user
            return (user, try await database.read { try UserProfile.key(of: user.id, $0) })
        }
    }

    var regenerateKey: Operation {
        Operation("Replace the API key. Events under the old key are still counted.", returns: Self.replacedKey) {
            request in
            let (user, key) = (try request.user, APIKey.random())
            _ = try await database.read { try UserAccounts.rotateKey(user.id, to: key, $0, now: request.now) }
            return key
        }
    }

    var updateSettings: Operation {
        Operation(
            "Change name or e-mail.",
            body: Schema.body(
                [:], optional: ["name": Schema.text(1...255).withExample("Ada"), "email": Schema.email]
            ).named("SettingsChange"), returns: Self.updatedUser
        ) { request in
            try ValidationError.check(
                request.body, [RuledField("name", .string, .maximum(255)), RuledField("email", .email)])
            // Laravel does not check this length, and answers 500.
            try ValidationError.check(request.body, [RuledField("email", .maximum(255))])
            let id = try request.user.id
            let (name, email) = (request.body["name"]?.text, request.body["email"]?.text)
            if let email, email != (try request.user.email) { try throttle.admitChange(by: id) }
            do {
                return try await database.read {
                    try UserProfile.update(id, .init(name: name, email: email), $0, now: request.now)
                }
            } catch let error as AppError where error.cause == .emailTaken {
                throw ValidationError("email", "The email has already been taken.")
            }
        }
    }
}
