import Bootstrap
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import CodexFlow

/// `codexflow migrate --roles` and `codexflow grants --apply`: from an empty database to services with a role each.
@Suite(.timeLimit(.minutes(30))) struct RoleSetupTests {
    private static let services: [DatabaseRole] = [.webhook, .worker, .admin, .operator]

    /// Runs `body` with the settings of a `migrate` container whose roles nobody else has, and drops them.
    private func withInstallation(
        _ contents: TestDatabase.Contents = .empty,
        _ body: (TestDatabase, _ prefix: String, _ settings: [String: String]) async throws -> Void
    ) async throws {
        try await withTestDatabase(contents) { database in
            let prefix = "t" + UUID().uuidString.lowercased().replacing("-", with: "")
            let owner = database.configuration
            let passwords = Self.services.map { (RolePasswords.variable(of: $0), UUID().uuidString) }
            let settings = Dictionary(uniqueKeysWithValues: passwords).merging([
                "DB_HOST": owner.host, "DB_PORT": String(owner.port), "DB_DATABASE": owner.database,
                "DB_USERNAME": owner.user, "DB_PASSWORD": owner.password ?? "", "DB_ROLE_PREFIX": prefix,
                "MIGRATIONS_PATH": Checkout.migrations,
            ]) { $1 }
            let result: Result<Void, any Error>
            do {
                result = .success(try await body(database, prefix, settings))
            } catch {
                result = .failure(error)
            }
            let names = DatabaseRole.allCases.map { $0.name(prefix: prefix) }
            for name in names {
                let isThere = try await database.number(
                    "SELECT count(*) FROM pg_roles WHERE rolname = \(name)")
                guard isThere == 1 else { continue }
                try await database.execute(Query(unsafeSQL: "DROP OWNED BY \(name) CASCADE"))
                try await database.execute(Query(unsafeSQL: "DROP ROLE \(name)"))
            }
            try result.get()
        }
    }

    private func codexflow(
        _ arguments: [String], _ settings: [String: String]
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try ServiceProcess.start(product: "codexflow", arguments: arguments, environment: settings)
        return (try await process.waitForExit(), process.output)
    }

    @Test func anEmptyDatabaseAndItsOwnersPasswordAreEnough() async throws {
        try await withInstallation { database, prefix, settings in
            // A server that would make something weaker of a password that reached it.
            try await database.execute(
                """
                DO $$ BEGIN
                    EXECUTE format('ALTER DATABASE %I SET password_encryption = md5', current_database());
                END $$
                """)
            for attempt in 1...2 {
                let migrated = try await codexflow(["migrate", "--roles"], settings)
                #expect(migrated.exitCode == 0, "\(attempt): \(migrated.output)")
                let secrets = settings.filter { $0.key.hasSuffix("PASSWORD") }.values
                #expect(secrets.count == 5 && secrets.allSatisfy { !migrated.output.contains($0) })
            }
            let stored = try await database.number(
                """
                SELECT count(*) FROM pg_authid
                WHERE rolname LIKE \(prefix + "_%") AND rolpassword LIKE 'SCRAM-SHA-256$%'
                """)
            #expect(stored == Self.services.count)
            for role in Self.services {
                var configuration = database.configuration
                configuration.user = role.name(prefix: prefix)
                configuration.password = settings[RolePasswords.variable(of: role)]
                let (lacks, excess) = try await withPool(configuration) { pool in
                    try await pool.withConnection { connection in
                        let check = try PrivilegeCheck.ofCurrentUser(connection)
                        return (try check.lacks(connection, for: role), try check.excess(connection))
                    }
                }
                #expect(lacks == [] && excess == [])
            }
            let webhook = try ServiceProcess.start(
                product: "webhook-api",
                environment: settings.merging([
                    "DB_USERNAME": "\(prefix)_webhook", "DB_PASSWORD": settings["WEBHOOK_DB_PASSWORD"] ?? "",
                    "LITELLM_WEBHOOK_KEY": UUID().uuidString, "WEBHOOK_PORT": "0",
                ]) { $1 })
            _ = try await webhook.waitUntilListening()
            webhook.terminate()
            #expect(try await webhook.waitForExit() == 0)
            #expect(!webhook.output.contains("stronger than needed"))
        }
    }

    /// A new password in `.env` takes effect at the next start, as does `codexflow grants --apply` by hand.
    @Test func aPasswordIsReplaced() async throws {
        try await withInstallation { database, prefix, settings in
            #expect(try await codexflow(["migrate", "--roles"], settings).exitCode == 0)
            let other = UUID().uuidString
            let applied = try await codexflow(
                ["grants", "--apply"], settings.merging(["ADMIN_DB_PASSWORD": other]) { $1 })
            #expect(applied.exitCode == 0 && applied.output.contains("\(prefix)_admin"), "\(applied.output)")
            var configuration = database.configuration
            configuration.user = "\(prefix)_admin"
            configuration.password = other
            try await withPool(configuration) { try await $0.withConnection { _ = try $0.query("SELECT 1") } }
        }
    }

    @Test(arguments: [
        (["ADMIN_DB_PASSWORD": "short"], "ADMIN_DB_PASSWORD: has 5 characters; at least 16"),
        (["ADMIN_DB_PASSWORD": "sixteen-letters-", "WORKER_DB_PASSWORD": "sixteen-letters-"], "is the same as"),
    ]) func aPasswordThatIsNotARolesOwnChangesNothing(changes: [String: String], words: String) async throws {
        try await withInstallation { database, _, settings in
            let refused = try await codexflow(["migrate", "--roles"], settings.merging(changes) { $1 })
            #expect(refused.exitCode == 1 && refused.output.contains(words), "\(refused.output)")
            #expect(try await database.text("SELECT to_regnamespace('metering')") == nil)
        }
    }

    @Test func theOwnersPasswordIsNoRoles() throws {
        let reader = SettingsReader(environment: [
            "DB_PASSWORD": "the-password-of-all", "WEBHOOK_DB_PASSWORD": "the-password-of-all",
        ])
        _ = RolePasswords(reading: reader)
        #expect(
            reader.problems == ["WEBHOOK_DB_PASSWORD: is the same as DB_PASSWORD; make each by: openssl rand -hex 32"])
    }

    /// Laravel's role on a server where it makes no roles: they must be there, and are left as they are.
    @Test func aRoleThatMayNotMakeRolesGetsARemedy() async throws {
        try await withInstallation(.migrated) { database, prefix, settings in
            let owner = settings.merging(["MIGRATE_DATABASE_URL": database.url(as: .owner)]) { $1 }
            let refused = try await codexflow(["migrate", "--roles"], owner)
            #expect(refused.exitCode == 1 && refused.output.contains("\(prefix)_webhook"), "\(refused.output)")
            #expect(refused.output.contains("'codexflow grants'"))
            let there = try await codexflow(
                ["migrate", "--roles"], owner.merging(["DB_ROLE_PREFIX": TestRoles.prefix]) { $1 })
            #expect(there.exitCode == 0 && there.output.contains("may not make roles"), "\(there.output)")
        }
    }

    /// A service's role that is the owner of the database as well would lose nothing by `grants`.
    @Test func aServicesRoleIsNotTheOneThatMakesThem() async throws {
        try await withInstallation { database, prefix, settings in
            let name = "\(prefix)_webhook"
            try await database.execute(
                Query(unsafeSQL: "CREATE ROLE \(name) SUPERUSER LOGIN PASSWORD 'hush-hush-hush-1'"))
            let refused = try await codexflow(
                ["grants", "--apply"],
                settings.merging(["DB_USERNAME": name, "DB_PASSWORD": "hush-hush-hush-1"]) { $1 })
            #expect(refused.exitCode == 1 && refused.output.contains("is the role of a service"), "\(refused.output)")
        }
    }
}
