import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// `/api/v1/admin/users`: accounts, API keys and limits.
struct AdminUserController: Sendable {
    let database: Database
    let signIn: SignInPolicy

    private static let plans = ["starter", "pro", "agency"]
    private static let statuses = ["active", "suspended"]

    var listUsers: Operation {
        Operation(
            "Users, page by page.",
            [
                .query("search", .text(255), "A part of the name or e-mail, or the beginning of the API key."),
                .query("plan", .choice(Self.plans), "Only this plan."),
                .query("status", .choice(Self.statuses), "Only this status."),
                .query("is_admin", .flag, "Only administrators, or only others."),
                .query("is_deleted", .flag, "Only users that Laravel has soft-deleted, or only others."),
                .query("sort", .choice(UserDirectory.Sort.allCases.map(\.rawValue)), "The order; id by default."),
                .query("order", .choice(["asc", "desc"]), "asc by default."),
            ] + Parameter.page, returns: .page("UserPage", of: Account.json)
        ) { request in
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
                    filter, sort: sort, isDescending: request.text("order") == "desc", after: cursor,
                    limit: request.limit, $0)
            }
            return Page(page.accounts, next: page.next.map { [$0.key, "\($0.id)"] })
        }
    }

    var createUser: Operation {
        Operation(
            "Create a user. The API key is shown only in this answer.",
            body: Schema.closedBody(
                ["name": Schema.text(1...255).withExample("Ada"), "email": Schema.email],
                optional: [
                    "password": Schema.text(from: 8), "plan": Schema.choice(Self.plans), "is_admin": Schema.boolean,
                ]
            ).named("NewUser"), status: .created, returns: Self.accountWithKey
        ) { request in
            let body = request.body
            try ValidationError.check(
                body,
                [
                    RuledField("name", .required, .string, .minimum(1), .maximum(255)),
                    RuledField("email", .required, .email, .maximum(255)),
                    RuledField("password", .string, .minimum(8)), RuledField("plan", .choice(Self.plans)),
                    RuledField("is_admin", .boolean),
                ])
            let key = APIKey.random()
            // Nobody knows this password, so the user sets one by Laravel's reset.
            let password = body["password"]?.text ?? APIKey.random()
            let account = UserAccounts.NewAccount(
                name: body["name"]?.text ?? "", email: body["email"]?.text ?? "",
                passwordHash: try await signIn.hash(password, for: request.context), apiKey: key,
                plan: body["plan"]?.text ?? "starter", isAdmin: body["is_admin"] == true)
            let users = UserAdministration(by: try request.actor, at: request.now)
            return AccountWithKey(account: try await database.read { try users.create(account, $0) }, key: key)
        }
    }

    var getUser: Operation {
        Operation(
            "One user with limits, the last 20 logs and all-time usage.", [.id()], returns: Self.accountDetails
        ) { request in
            let id = try request.id()
            let (account, limits) = try await database.snapshot { connection in
                (
                    try UserAccounts.require(id, connection),
                    LimitWindows(limits: try LimitStatus.read(id, connection, now: request.now), now: request.now)
                )
            }
            return try await database.read { connection in
                try ReportSnapshot.take(connection) { snapshot in
                    AccountDetails(
                        account: account, limits: limits,
                        logs: try RecentCalls.list(of: id, limit: 20, on: snapshot.connection),
                        totals: Usage(try UsageSummary.read(.user(id), .allTime, on: snapshot).current.sums))
                }
            }
        }
    }

    var updateUser: Operation {
        Operation(
            "Change name, e-mail, plan, status or the administrator flag.", [.id()],
            body: Schema.closedBody(
                [:],
                optional: [
                    "name": Schema.text(1...255).withExample("Ada"), "email": Schema.email,
                    "plan": Schema.choice(Self.plans), "status": Schema.choice(Self.statuses),
                    "is_admin": Schema.boolean,
                ]
            ).named("UserChange"), returns: Account.json
        ) { request in
            let body = request.body
            try ValidationError.check(
                body,
                [
                    RuledField("name", .string, .minimum(1), .maximum(255)),
                    RuledField("email", .email, .maximum(255)), RuledField("plan", .choice(Self.plans)),
                    RuledField("status", .choice(Self.statuses)), RuledField("is_admin", .boolean),
                ])
            let change = UserProfile.Change(
                name: body["name"]?.text, email: body["email"]?.text, plan: body["plan"]?.text,
                status: body["status"]?.text, isAdmin: body["is_admin"].map { $0 == true })
            return try await administer(request) { try $0.update($1, change, $2) }
        }
    }

    var suspendUser: Operation {
        Operation("Refuse the user's requests from now on.", [.id()], returns: Account.json) { request in
            try await administer(request) { try $0.suspend($1, $2) }
        }
    }

    var activateUser: Operation {
        Operation("Accept the user's requests again.", [.id()], returns: Account.json) { request in
            try await administer(request) { try $0.activate($1, $2) }
        }
    }

    var setUserKey: Operation {
        Operation(
            "Set the API key of the body, or a new one. It is shown only in this answer.", [.id()],
            body: Schema.closedBody([:], optional: ["api_key": Schema.text(32...255)]).named("NewKey"),
            returns: Self.accountWithKey
        ) { request in
            // As strong as a generated one: who guesses it spends the user's money.
            try ValidationError.check(request.body, [RuledField("api_key", .string, .minimum(32), .maximum(255))])
            let key = request.body["api_key"]?.text ?? APIKey.random()
            let account = try await administer(request) { try $0.setKey($1, to: key, $2) }
            return AccountWithKey(account: account, key: key)
        }
    }

    var setUserLimits: Operation {
        Operation(
            "Set own limits, budgets and models. Null restores the plan's limit or all models; other values stay.",
            [.id()], body: Schema.limitChange,
            returns: .object("UserLimits", [Field("limits", LimitWindows.json) { $0 }])
        ) { request in
            let (id, now) = (try request.id(), request.now)
            let change = try LimitAdministration.UserChange(request.body)
            let limits = LimitAdministration(by: try request.actor, at: now)
            return try await database.read { connection in
                try limits.set(change, user: id, connection)
                return LimitWindows(limits: try LimitStatus.read(id, connection, now: now), now: now)
            }
        }
    }

    /// Changes the user of the path.
    private func administer(
        _ request: APIRequest, _ change: @Sendable (UserAdministration, Int64, Connection) throws -> Account
    ) async throws -> Account {
        let (id, users) = (try request.id(), UserAdministration(by: try request.actor, at: request.now))
        return try await database.read { try change(users, id, $0) }
    }
}

private typealias Account = UserAccounts.Account

extension UserAccounts.Account {
    fileprivate static let fields: [Field<Self>] = [
        Field("id", .integer, \.id), Field("name", .string, example: "Ada", \.name),
        Field("email", .string, example: "ada@example.com", \.email),
        Field("plan", .string, example: "pro", \.plan), Field("status", .string, example: "active", \.status),
        Field("is_admin", .boolean, \.isAdmin), Field("is_deleted", .boolean, \.isDeleted),
        Field("key_prefix", .nullable(.string), example: "cf_1a2b", \.keyPrefix),
        Field("created_at", .nullable(.time), \.createdAt), Field("updated_at", .nullable(.time), \.updatedAt),
    ]

    fileprivate static let json = JSONType<Self>.object("User", fields)
}

extension AdminUserController {
    fileprivate struct AccountWithKey: Sendable {
        let account: Account
        let key: String
    }

    fileprivate struct AccountDetails: Sendable {
        let account: Account
        let limits: LimitWindows
        let logs: [LogRow]
        let totals: Usage
    }

    private static let accountWithKey = JSONType<AccountWithKey>.object(
        "UserWithKey",
        Account.fields.map { $0.inside(\.account) } + [Field("api_key", .string, example: "cf_1a2b3c", \.key)])

    private static let accountDetails = JSONType<AccountDetails>.object(
        "UserDetails",
        Account.fields.map { $0.inside(\.account) } + [
            Field("limits", LimitWindows.json, \.limits), Field("recent_logs", .list(LogRow.laravelJSON), \.logs),
            Field("totals", Usage.json, \.totals),
        ])
}

extension LimitAdministration.UserChange {
    /// The change that a body describes: a member for each window, and `models`.
    ///
    /// - Throws: ``ValidationError`` with every rule that the body breaks.
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
    /// The setting of a member: unchanged where it is missing, the default where it is null.
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
            "models": ["anyOf": [names, ["type": "null"]], "description": "The only models that may be used."],
        ]
    ).named("LimitChange")

    private static let names = list(text()).merging(["maxItems": 1_000])
    private static let count = optional(integer(0...Int.max))
    private static let windowChange = closedBody(
        [:], optional: ["requests": count, "tokens": count, "budget": optional(amount(below: 8))]
    ).named("WindowChange")
}
