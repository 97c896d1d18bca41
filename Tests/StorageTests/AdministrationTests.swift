import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Changes by administrators and their entries in the audit log, under the role of `admin-api`.
@Suite(.timeLimit(.minutes(30))) struct AdministrationTests {
    private static let actor = AuditActor(userID: 7, address: "203.0.113.9")

    private var users: UserAdministration { UserAdministration(by: Self.actor, at: StorageBench.noon) }
    private var limits: LimitAdministration { LimitAdministration(by: Self.actor, at: StorageBench.noon) }
    private var models: ModelAdministration { ModelAdministration(by: Self.actor, at: StorageBench.noon) }

    private func account(_ email: String, key: String = APIKey.random(), isAdmin: Bool = false)
        -> UserAccounts.NewAccount
    {
        .init(name: "Ada", email: email, passwordHash: "$2y$12$hash", apiKey: key, plan: "pro", isAdmin: isAdmin)
    }

    private func log(_ bench: StorageBench, _ filter: AuditLog.Filter = .init()) async throws -> [AuditLog.Entry] {
        try await bench.admin.withConnection { try AuditLog.list(filter, limit: 100, $0) }
    }

    /// Expects an ``AppError`` of `code` and that nothing was logged.
    private func expectRefusal<T: Sendable>(
        _ code: AppError.Code, _ bench: StorageBench, _ body: @Sendable (Connection) throws -> T
    ) async throws {
        let before = try await log(bench).count
        let error = await #expect(throws: AppError.self) { try await bench.admin.withConnection { _ = try body($0) } }
        #expect(error?.code == code)
        #expect(try await log(bench).count == before)
    }

    @Test func aNewUserIsLoggedWithoutSecrets() async throws {
        try await StorageBench.with { bench in
            let (users, new) = (users, account("ada@example.com"))
            let made = try await bench.admin.withConnection { try users.create(new, $0) }
            #expect(made.email == "ada@example.com" && made.plan == "pro" && made.createdAt == StorageBench.noon)
            let entries = try await log(bench)
            #expect(entries.map(\.action) == ["user.create"])
            #expect(
                entries[0].actor == Self.actor && entries[0].subjectID == "\(made.id)"
                    && entries[0].at == StorageBench.noon)
            #expect(entries[0].before == nil)
            let text = try await bench.text("SELECT string_agg(a::text, '') FROM metering.audit_log a") ?? ""
            #expect(text.contains("ada@example.com") && text.contains(new.apiKey.prefix(7)))
            #expect(!text.contains(new.apiKey) && !text.contains("$2y$"))
            // The first call finds the key.
            _ = try await bench.write([.sample(1, by: .hash(of: new.apiKey), at: StorageBench.noon)])
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(made.id)") == 1)
            try await expectRefusal(.conflict, bench) { try users.create(new, $0) }
        }
    }

    @Test func aChangeIsLoggedWithBeforeAndAfterAndARefusedOneIsNot() async throws {
        try await StorageBench.with { bench in
            let (users, new) = (users, account("ada@example.com"))
            let ada = try await bench.admin.withConnection { try users.create(new, $0).id }
            let bob = try await bench.makeUser()
            let changed = try await bench.admin.withConnection {
                try users.update(ada, .init(name: "Ada L.", plan: "agency"), $0)
            }
            #expect(changed.name == "Ada L." && changed.plan == "agency" && changed.email == "ada@example.com")
            let entry = try #require(try await log(bench).first)
            #expect(entry.before?.contains(#""plan": "pro""#) == true)
            #expect(entry.after?.contains(#""plan": "agency""#) == true)
            // A change without a difference is not logged.
            _ = try await bench.admin.withConnection { try users.update(ada, .init(plan: "agency"), $0) }
            #expect(try await log(bench).count == 2)

            try await expectRefusal(.notFound, bench) { try users.update(9_999, .init(name: "x"), $0) }
            try await expectRefusal(.conflict, bench) { try users.update(bob, .init(email: "ada@example.com"), $0) }
            try await expectRefusal(.invalid, bench) { try users.update(bob, .init(plan: "free"), $0) }
            try await expectRefusal(.invalid, bench) { try users.update(bob, .init(status: "gone"), $0) }
            try await expectRefusal(.invalid, bench) {
                try users.update(bob, .init(name: String(repeating: "n", count: 256)), $0)
            }
        }
    }

    @Test func theLastAdministratorStays() async throws {
        try await StorageBench.with { bench in
            let (users, first, second) = (
                users, account("a@example.com", isAdmin: true), account("b@example.com", isAdmin: true)
            )
            let ada = try await bench.admin.withConnection { try users.create(first, $0).id }
            try await expectRefusal(.conflict, bench) { try users.update(ada, .init(isAdmin: false), $0) }
            try await expectRefusal(.conflict, bench) { try users.suspend(ada, $0) }
            let bob = try await bench.admin.withConnection { try users.create(second, $0).id }
            // Two administrators are demoted at once. One of them is the last.
            let outcomes = await withTaskGroup(of: Bool.self) { group in
                for id in [ada, bob] {
                    group.addTask {
                        do {
                            _ = try await bench.admin.withConnection {
                                try users.update(id, .init(isAdmin: false), $0)
                            }
                            return true
                        } catch {
                            return false
                        }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(outcomes.sorted { !$0 && $1 } == [false, true])
            #expect(try await bench.number("SELECT count(*) FROM users WHERE is_admin") == 1)
        }
    }

    @Test func aSuspendedUserIsActivatedAgain() async throws {
        try await StorageBench.with { bench in
            let users = users
            let bob = try await bench.makeUser()
            #expect(try await bench.admin.withConnection { try users.suspend(bob, $0).status } == "suspended")
            #expect(try await bench.admin.withConnection { try users.activate(bob, $0).status } == "active")
            #expect(try await log(bench).map(\.action) == ["user.activate", "user.suspend"])
        }
    }

    @Test func aReplacedKeyStillFindsItsCallsAndATakenOneIsRefused() async throws {
        try await StorageBench.with { bench in
            let (users, old, new) = (users, APIKey.random(), APIKey.random())
            let ada = try await bench.makeUser(key: old)
            let bob = try await bench.makeUser(key: APIKey.random())
            #expect(
                try await bench.admin.withConnection { try users.setKey(ada, to: new, $0).keyPrefix }
                    == String(new.prefix(7)))
            _ = try await bench.write([
                .sample(1, by: .hash(of: old), at: StorageBench.noon.advanced(by: .seconds(-60))),
                .sample(2, by: .hash(of: new), at: StorageBench.noon),
            ])
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(ada)") == 2)
            try await expectRefusal(.conflict, bench) { try users.setKey(bob, to: new, $0) }
            try await expectRefusal(.notFound, bench) { try users.setKey(9_999, to: APIKey.random(), $0) }
            #expect(
                try await bench.number(
                    "SELECT count(*) FROM metering.audit_log a WHERE a::text LIKE '%' || \(new) || '%'") == 0)
        }
    }

    /// Each key that was shown finds its user, even one that was replaced at once.
    @Test func keysGivenAtTheSameTimeAreAllRemembered() async throws {
        try await StorageBench.with { bench in
            let users = users
            let ada = try await bench.makeUser(key: APIKey.random())
            let keys = (0..<6).map { _ in APIKey.random() }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for key in keys {
                    group.addTask { _ = try await bench.admin.withConnection { try users.setKey(ada, to: key, $0) } }
                }
                try await group.waitForAll()
            }
            let known = try await bench.number(
                "SELECT count(DISTINCT key_hash) FROM metering.api_keys WHERE user_id = \(ada)")
            #expect(known == 7)
        }
    }

    @Test func limitsOfUsersAndPlansReachRateLimits() async throws {
        try await StorageBench.with { bench in
            let limits = limits
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser(plan: "pro"))
            _ = try await bench.write([ada, bob].map { .sample(UInt64($0), by: .user($0), at: StorageBench.noon) })
            try await bench.admin.withConnection { connection in
                let own = UserLimits.Change(requests: .set(6), tokens: .set(5), budget: .set(Money(picodollars: 1)))
                try limits.set(.init(windows: [.daily: own], models: .set(["gpt-4"])), user: ada, connection)
                try limits.set([.daily: .init(tokens: 7, requests: 8)], plan: "pro", connection)
                #expect(try LimitAdministration.plans(connection)["pro"]?[.daily] == .init(tokens: 7, requests: 8))
                #expect(try LimitAdministration.plans(connection).count == 3)
            }
            try await bench.updateCounters()
            let limit: Query =
                """
                SELECT string_agg(limit_tokens || '/' || limit_requests, ' ' ORDER BY user_id)
                FROM rate_limits WHERE period = 'daily'
                """
            #expect(try await bench.text(limit) == "5/6 7/8")
            try await bench.admin.withConnection {
                try limits.set(.init(windows: [.daily: .init(requests: .clear, tokens: .clear)]), user: ada, $0)
            }
            try await bench.updateCounters()
            #expect(try await bench.text(limit) == "100000/1000 7/8")
            let entries = try await log(bench)
            #expect(entries.map(\.action) == ["user.limits", "plan.limits", "user.limits"])
            #expect(
                entries[2].after
                    == #"{"daily": {"budget": 0.000000000001, "tokens": 5, "requests": 6}, "models": ["gpt-4"]}"#)
            #expect(
                entries[0].after
                    == #"{"daily": {"budget": 0.000000000001, "tokens": null, "requests": null}, "models": ["gpt-4"]}"#)
            try await expectRefusal(.invalid, bench) {
                try limits.set(.init(windows: [.daily: .init(tokens: .set(-1))]), user: ada, $0)
            }
            try await expectRefusal(.notFound, bench) { try limits.set(.init(), user: 9_999, $0) }
            try await expectRefusal(.notFound, bench) {
                try limits.set([.daily: .init(tokens: 1, requests: 1)], plan: "free", $0)
            }
        }
    }

    @Test func modelsAndFreeModelsAreChanged() async throws {
        try await StorageBench.with { bench in
            let models = models
            let cost = try #require(DecimalLiteral("0.03").flatMap(Cost.init))
            var model = ModelAdministration.Model(
                name: "GPT-4", modelID: "gpt-4", costPer1kTokens: cost, isAvailable: true)
            let id = try await bench.admin.withConnection { [model] in try models.create(model, $0) }
            model.isAvailable = false
            try await bench.admin.withConnection { [model] in try models.update(id, model, $0) }
            #expect(
                try await bench.text("SELECT concat_ws(' ', model_id, cost_per_1k_tokens, availability) FROM models")
                    == "gpt-4 0.030000 f")
            try await expectRefusal(.notFound, bench) { [model] in try models.update(9_999, model, $0) }
            model.name = ""
            try await expectRefusal(.invalid, bench) { [model] in try models.create(model, $0) }

            try await bench.admin.withConnection { connection in
                try models.setFree("local", true, connection)
                try models.setFree("local", true, connection)
                #expect(try ModelAdministration.freeModels(connection) == ["local"])
                try models.setFree("local", false, connection)
                #expect(try ModelAdministration.freeModels(connection) == [])
            }
            #expect(
                try await log(bench).map(\.action) == ["model.free", "model.free", "model.update", "model.create"])
        }
    }

    @Test func theLogIsReadByPagesAndNeverRewritten() async throws {
        try await StorageBench.with { bench in
            let users = users
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for round in 0..<5 {
                for user in [ada, bob] {
                    _ = try await bench.admin.withConnection { try users.update(user, .init(name: "n\(round)"), $0) }
                }
            }
            let all = try await log(bench)
            #expect(all.count == 10 && all.map(\.id) == all.map(\.id).sorted(by: >))
            let page = try await bench.admin.withConnection {
                try AuditLog.list(.init(subject: "user", subjectID: "\(ada)"), before: all[3].id, limit: 2, $0)
            }
            #expect(page == Array(all.filter { $0.subjectID == "\(ada)" && $0.id < all[3].id }.prefix(2)))
            #expect(try await log(bench, .init(actorID: 8)) == [])
            #expect(try await log(bench, .init(from: StorageBench.noon.advanced(by: .seconds(1)))) == [])
            for statement in ["DELETE FROM metering.audit_log", "UPDATE metering.audit_log SET actor_id = 8"] as [Query]
            {
                await #expect(throws: PostgresError.self) {
                    try await bench.admin.withConnection { try $0.execute(statement) }
                }
            }
        }
    }
}
