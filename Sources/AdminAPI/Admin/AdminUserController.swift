import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// `/api/v1/admin/users`: who may call, with which key and within which limits.
struct AdminUserController: Sendable {
    let database: Database
    let strangers: Strangers

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
            ) { call in try await administer(call) { try $0.suspend($1, $2) } },
            Endpoint(
                .post, "/api/v1/admin/users/{id}/activate", .admin, "Take the user's calls again.", [.id()],
                answers: Schema.account
            ) { call in try await administer(call) { try $0.activate($1, $2) } },
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

    @Sendable private func list(_ call: Call) async throws -> Answer {
        let filter = UserDirectory.Filter(
            search: call.text("search"), plan: call.text("plan"), status: call.text("status"),
            isAdmin: call.text("is_admin").map { _ in call.flag("is_admin") },
            isDeleted: call.text("is_deleted").map { _ in call.flag("is_deleted") })
        let sort = call.text("sort").flatMap(UserDirectory.Sort.init(rawValue:)) ?? .id
        let cursor = try call.cursor(count: 2).map { parts in
            guard let id = Int64(parts[1]) else { throw Cursor.invalid }
            return UserDirectory.Cursor(key: parts[0], id: id)
        }
        let page = try await database.read {
            try UserDirectory.list(
                filter, sort: sort, isDescending: call.text("order") == "desc", after: cursor, limit: call.limit, $0)
        }
        return .page(page.accounts.map(\.json), next: page.next.map { [$0.key, "\($0.id)"] })
    }

    @Sendable private func create(_ call: Call) async throws -> Answer {
        let body = call.body
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
            passwordHash: try await strangers.hash(password, for: call), apiKey: key,
            plan: body["plan"]?.text ?? "starter", isAdmin: body["is_admin"] == true)
        let users = UserAdministration(by: try call.actor, at: call.now)
        let made = try await database.read { try users.create(account, $0) }
        return .json(made.json.merging(["api_key": .string(key)]), status: .created)
    }

    @Sendable private func show(_ call: Call) async throws -> Answer {
        let id = try call.id()
        let (account, limits) = try await database.snapshot { connection in
            (try UserAccounts.require(id, connection), try LimitStatus.read(id, connection, now: call.now))
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
                "limits": limits.json(now: call.now), "recent_logs": .array(calls.map(\.laravelJSON)),
                "totals": sums.json(UsageLatency()),
            ]))
    }

    @Sendable private func update(_ call: Call) async throws -> Answer {
        let body = call.body
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
        return try await administer(call) { try $0.update($1, change, $2) }
    }

    @Sendable private func setKey(_ call: Call) async throws -> Answer {
        // As strong as one of ours: whoever guesses it calls on the user's bill.
        try ValidationError.check(call.body, [RuledField("api_key", .string, .minimum(32), .maximum(255))])
        let (id, key) = (try call.id(), call.body["api_key"]?.text ?? APIKey.random())
        let users = UserAdministration(by: try call.actor, at: call.now)
        let account = try await database.read { try users.setKey(id, to: key, $0) }
        return .json(account.json.merging(["api_key": .string(key)]))
    }

    @Sendable private func setLimits(_ call: Call) async throws -> Answer {
        let (id, now, change) = (try call.id(), call.now, try LimitAdministration.UserChange(call.body))
        let limits = LimitAdministration(by: try call.actor, at: now)
        let status = try await database.read { connection in
            try limits.set(change, user: id, connection)
            return try LimitStatus.read(id, connection, now: now)
        }
        return .json(["limits": status.json(now: now)])
    }

    private func administer(
        _ call: Call, _ change: @Sendable (UserAdministration, Int64, Connection) throws -> UserAccounts.Account
    ) async throws -> Answer {
        let (id, users) = (try call.id(), UserAdministration(by: try call.actor, at: call.now))
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
