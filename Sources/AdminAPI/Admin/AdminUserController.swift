import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// `/api/v1/admin/users`: who may call, with which key and within which limits.
struct AdminUserController: Sendable {
    let database: Database
    let signIn: SignInPolicy

    private static let plans = ["starter", "pro", "agency"]
    private static let statuses = ["active", "suspended"]

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/users", .admin, "Users, page by page.",
                [
                    .query("search", .text(255), "A part of the name or e-mail, or the beginning of the key."),
                    .query("plan", .choice(Self.plans), "Of this plan."),
                    .query("status", .choice(Self.statuses), "In this status."),
                    .query("is_admin", .flag, "Administrators, or the others."),
                    .query("is_deleted", .flag, "Soft-deleted by Laravel, or the others."),
                    .query("sort", .choice(UserDirectory.Sort.allCases.map(\.rawValue)), "id unless said."),
                    .query("order", .choice(["asc", "desc"]), "asc unless said."),
                ] + Parameter.page,
                answers: Schema.page(of: Schema.account), list),
            Endpoint(
                .post, "/api/v1/admin/users", .admin, "Make a user; the key is shown this once.",
                body: Schema.closedBody(
                    ["name": Schema.text(1...255), "email": Schema.email],
                    optional: [
                        "password": Schema.text(from: 8), "plan": Schema.choice(Self.plans), "is_admin": Schema.boolean,
                    ]),
                status: .created, answers: Schema.accountWithKey, create),
            Endpoint(
                .get, "/api/v1/admin/users/{id}", .admin, "One user with limits, last calls and totals.", [.id()],
                answers: Schema.accountDetails, show),
            Endpoint(
                .patch, "/api/v1/admin/users/{id}", .admin, "Change name, e-mail, plan, status or rank.", [.id()],
                body: Schema.closedBody(
                    [:],
                    optional: [
                        "name": Schema.text(1...255), "email": Schema.email, "plan": Schema.choice(Self.plans),
                        "status": Schema.choice(Self.statuses), "is_admin": Schema.boolean,
                    ]),
                answers: Schema.account, update),
            Endpoint(
                .post, "/api/v1/admin/users/{id}/suspend", .admin, "Refuse the user's calls from now on.", [.id()],
                answers: Schema.account
            ) { request in try await administer(request) { try $0.suspend($1, $2) } },
            Endpoint(
                .post, "/api/v1/admin/users/{id}/activate", .admin, "Take the user's calls again.", [.id()],
                answers: Schema.account
            ) { request in try await administer(request) { try $0.activate($1, $2) } },
            Endpoint(
                .put, "/api/v1/admin/users/{id}/key", .admin,
                "Give a new key, or the one in the body; it is shown this once.", [.id()],
                body: Schema.closedBody([:], optional: ["api_key": Schema.text(32...255)]),
                answers: Schema.accountWithKey, setKey),
            Endpoint(
                .put, "/api/v1/admin/users/{id}/limits", .admin,
                "Set own limits, budgets and models; null is the plan's, or all, again; what is left out stays.",
                [.id()],
                body: Schema.limitChange, answers: Schema.object(["limits": Schema.map(of: Schema.window)]), setLimits),
        ]
    }

    @Sendable private func list(_ request: APIRequest) async throws -> APIResponse {
        let filter = UserDirectory.Filter(
            search: request.text("search"), plan: request.text("plan"), status: request.text("status"),
            isAdmin: request.text("is_admin").map { _ in request.flag("is_admin") },
            isDeleted: request.text("is_deleted").map { _ in request.flag("is_deleted") })
        let sort = request.text("sort").flatMap(UserDirectory.Sort.init(rawValue:)) ?? .id
        let cursor = try request.cursor(count: 2).map { parts in
            guard let id = Int64(parts[1]) else { throw Cursor.invalid }
            return UserDirectory.Cursor(key: parts[0], id: id)
        }
        let page = try await database.read {
            try UserDirectory.list(
                filter, sort: sort, isDescending: request.text("order") == "desc", after: cursor, limit: request.limit,
                $0)
        }
        return .page(page.accounts.map(\.json), next: page.next.map { [$0.key, "\($0.id)"] })
    }

    @Sendable private func create(_ request: APIRequest) async throws -> APIResponse {
        let body = request.body
        try ValidationError.check(
            body,
            [
                RuledField("name", .required, .string, .minimum(1), .maximum(255)),
                RuledField("email", .required, .email, .maximum(255)), RuledField("password", .string, .minimum(8)),
                RuledField("plan", .choice(Self.plans)), RuledField("is_admin", .boolean),
            ])
        let key = APIKey.random()
        // Without a password nobody logs in; Laravel's reset sets one.
        let password = body["password"]?.text ?? APIKey.random()
        let account = UserAccounts.NewAccount(
            name: body["name"]?.text ?? "", email: body["email"]?.text ?? "",
            passwordHash: try await signIn.hash(password, for: request), apiKey: key,
            plan: body["plan"]?.text ?? "starter", isAdmin: body["is_admin"] == true)
        let users = UserAdministration(by: try request.actor, at: request.now)
        let made = try await database.read { try users.create(account, $0) }
        return .json(made.json.merging(["api_key": .string(key)]), status: .created)
    }

    @Sendable private func show(_ request: APIRequest) async throws -> APIResponse {
        let id = try request.id()
        let (account, limits) = try await database.snapshot { connection in
            (try UserAccounts.require(id, connection), try LimitStatus.read(id, connection, now: request.now))
        }
        let (calls, sums) = try await database.read { connection in
            try UsageSnapshot.take(connection) { snapshot in
                (
                    try RecentCalls.list(of: id, limit: 20, snapshot.connection),
                    try UsageSummary(.user(id), .allTime, snapshot).current.sums
                )
            }
        }
        return .json(
            account.json.merging([
                "limits": limits.json(now: request.now), "recent_logs": .array(calls.map(\.laravelJSON)),
                "totals": sums.json(UsageLatency()),
            ]))
    }

    @Sendable private func update(_ request: APIRequest) async throws -> APIResponse {
        let body = request.body
        try ValidationError.check(
            body,
            [
                RuledField("name", .string, .minimum(1), .maximum(255)), RuledField("email", .email, .maximum(255)),
                RuledField("plan", .choice(Self.plans)), RuledField("status", .choice(Self.statuses)),
                RuledField("is_admin", .boolean),
            ])
        let change = UserProfile.Change(
            name: body["name"]?.text, email: body["email"]?.text, plan: body["plan"]?.text,
            status: body["status"]?.text,
            isAdmin: body["is_admin"].map { $0 == true })
        return try await administer(request) { try $0.update($1, change, $2) }
    }

    @Sendable private func setKey(_ request: APIRequest) async throws -> APIResponse {
        // As strong as one of ours: whoever guesses it calls on the user's bill.
        try ValidationError.check(request.body, [RuledField("api_key", .string, .minimum(32), .maximum(255))])
        let (id, key) = (try request.id(), request.body["api_key"]?.text ?? APIKey.random())
        let users = UserAdministration(by: try request.actor, at: request.now)
        let account = try await database.read { try users.setKey(id, to: key, $0) }
        return .json(account.json.merging(["api_key": .string(key)]))
    }

    @Sendable private func setLimits(_ request: APIRequest) async throws -> APIResponse {
        let (id, now, change) = (try request.id(), request.now, try LimitAdministration.UserChange(request.body))
        let limits = LimitAdministration(by: try request.actor, at: now)
        let status = try await database.read { connection in
            try limits.set(change, user: id, connection)
            return try LimitStatus.read(id, connection, now: now)
        }
        return .json(["limits": status.json(now: now)])
    }

    private func administer(
        _ request: APIRequest,
        _ change: @Sendable (UserAdministration, Int64, Connection) throws -> UserAccounts.Account
    ) async throws -> APIResponse {
        let (id, users) = (try request.id(), UserAdministration(by: try request.actor, at: request.now))
        return .json(try await database.read { try change(users, id, $0) }.json)
    }
}

extension UserAccounts.Account {
    fileprivate var json: JSON {
        [
            "id": .integer(id), "name": .string(name), "email": .string(email), "plan": .string(plan),
            "status": .string(status), "is_admin": .bool(isAdmin), "is_deleted": .bool(isDeleted),
            "key_prefix": keyPrefix.json, "created_at": createdAt.json, "updated_at": updatedAt.json,
        ]
    }
}

extension Schema {
    private static let accountMembers: [(String, JSON)] = [
        ("id", integer), ("name", string), ("email", string), ("plan", string), ("status", string),
        ("is_admin", boolean), ("is_deleted", boolean), ("key_prefix", optional(string)),
        ("created_at", optional(time)),
        ("updated_at", optional(time)),
    ]
    fileprivate static let account = object(of: accountMembers)
    fileprivate static let accountWithKey = object(of: accountMembers + [("api_key", string)])
    fileprivate static let accountDetails = object(
        of: accountMembers + [("limits", map(of: window)), ("recent_logs", list(laravelLog)), ("totals", sums)])
}

extension LimitAdministration.UserChange {
    /// What a body asks for: a member for each window, and `models`.
    ///
    /// - Throws: ``ValidationError`` with everything that is wrong.
    init(_ body: JSON) throws {
        var errors = ValidationError()
        var windows: [QuotaPeriod: UserLimits.Change] = [:]
        for period in QuotaPeriod.allCases {
            guard let window = body[period.rawValue] else { continue }
            let name = period.rawValue
            guard window.members != nil else {
                errors.add(name, ["The \(name) field must be an object."])
                continue
            }
            windows[period] = UserLimits.Change(
                requests: window.setting("requests", in: name, &errors, "a whole number of 0 or more", Self.count),
                tokens: window.setting("tokens", in: name, &errors, "a whole number of 0 or more", Self.count),
                budget: window.setting("budget", in: name, &errors, "USD from 0 to 99999999 as a decimal string") {
                    $0.decimal.flatMap { Cost($0) }.map { Money(picodollars: $0.picodollars) }
                })
        }
        let models: UserLimits.Setting<[String]> = body.setting("models", in: nil, &errors, "a list of names") {
            value in
            guard let elements = value.elements, elements.count <= 1_000 else { return nil }
            let names = elements.compactMap(\.text)
            return names.count == elements.count && !names.contains { $0.utf8.contains(0) } ? names : nil
        }
        guard errors.isEmpty else { throw errors }
        self.init(windows: windows, models: models)
    }

    private static func count(_ value: JSON) -> Int64? { value.wholeNumber.flatMap { $0 >= 0 ? $0 : nil } }
}

extension JSON {
    /// What a member sets: nothing where it is missing, the default again where it is null.
    fileprivate func setting<Amount>(
        _ name: String, in parent: String?, _ errors: inout ValidationError, _ expectation: String,
        _ read: (JSON) -> Amount?
    ) -> UserLimits.Setting<Amount> {
        guard let value = self[name] else { return .keep }
        if value == .null { return .clear }
        if let amount = read(value) { return .set(amount) }
        let path = parent.map { "\($0).\(name)" } ?? name
        errors.add(path, ["The \(path) field must be \(expectation), or null."])
        return .keep
    }
}

extension Schema {
    static let limitChange = closedBody(
        [:],
        optional: [
            "daily": windowChange, "monthly": windowChange,
            "models": ["anyOf": [names, ["type": "null"]], "description": "The only ones that may be called."],
        ])

    private static let names = list(text()).merging(["maxItems": 1_000])
    private static let count = optional(integer(0...Int.max))
    private static let windowChange = closedBody(
        [:], optional: ["requests": count, "tokens": count, "budget": optional(amount(below: 8))])
}
