import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Reports about a database that hides, changes or drops rows, or cannot hold our texts.
@Suite(.timeLimit(.minutes(30))) struct SilenceTests {
    private func codexflow(
        _ arguments: [String], url: String, owner: String? = nil
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: arguments,
            environment: [
                "DATABASE_URL": url, "MIGRATE_DATABASE_URL": owner ?? url, "MIGRATIONS_PATH": Checkout.migrations,
            ])
        let exitCode = try await process.waitForExit(within: .seconds(60))
        return (exitCode, process.output)
    }

    private func codexflow(_ arguments: [String], on database: TestDatabase) async throws -> (
        exitCode: Int32, output: String
    ) {
        try await codexflow(arguments, url: database.url(as: .operator), owner: database.url(as: .owner))
    }

    private static func makeEncoded(_ encoding: String, on server: ConnectionConfiguration) async throws -> String {
        let name = "test_encoded_" + UUID().uuidString.lowercased().replacing("-", with: "_")
        try await onServer(server, "CREATE DATABASE \(name) TEMPLATE template0 ENCODING '\(encoding)' LOCALE 'C'")
        return name
    }

    @Test(arguments: ["LATIN5", "SQL_ASCII"])
    func anotherEncodingIsRefusedBeforeAnythingIsChanged(encoding: String) async throws {
        let server = try TestServer.configuration()
        let name = try await Self.makeEncoded(encoding, on: server)
        let url = server.database(name).url
        do {
            let migrate = try await codexflow(["migrate"], url: url)
            #expect(migrate.exitCode == 1)
            #expect(
                migrate.output.contains("The database's encoding is \(encoding); it must be UTF8."), "\(migrate.output)"
            )
            let made = try await withPool(server.database(name)) { pool in
                try await pool.withConnection {
                    try $0.query(
                        """
                        SELECT FROM pg_class
                        WHERE relnamespace = 'public'::regnamespace OR oid::regclass::text ~ 'metering'
                        """
                    ).count
                }
            }
            #expect(made == 0)
            for (product, port) in [("webhook-api", "WEBHOOK_PORT"), ("admin-api", "ADMIN_PORT")] {
                let process = try ServiceProcess.start(
                    product: product,
                    environment: [
                        "DATABASE_URL": url, port: "0",
                        "LITELLM_WEBHOOK_KEY": "test-webhook-key-of-more-than-32-characters",
                    ])
                #expect(try await process.waitForExit() == 1)
                #expect(process.output.contains("it must be UTF8"), "\(process.output)")
            }
            let doctor = try await codexflow(["doctor"], url: url)
            #expect(
                doctor.exitCode == 1 && doctor.output.contains("The database's encoding is \(encoding)"),
                "\(doctor.output)")
        } catch {
            try await onServer(server, "DROP DATABASE \(name) WITH (FORCE)")
            throw error
        }
        try await onServer(server, "DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func migrateReportsWhatChangesTheMeaningOfRows() async throws {
        try await withTestDatabase { database in
            #expect(try await !codexflow(["migrate"], on: database).output.contains("warning"))
            try await database.pool.withConnection {
                try $0.executeScript(
                    """
                    ALTER TABLE users ADD deleted_at timestamp(0);
                    CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                    CREATE TRIGGER swallowing BEFORE INSERT ON api_logs FOR EACH ROW EXECUTE FUNCTION swallow();
                    INSERT INTO users (id, name, email, password) VALUES (50, 'Ada', 'a@b.c', 'x');
                    ALTER TABLE api_logs ENABLE ROW LEVEL SECURITY
                    """)
            }
            // As a superuser, whom nothing is hidden from; the services' roles are another matter.
            let migrate = try await codexflow(["migrate"], url: database.configuration.url)
            #expect(migrate.exitCode == 0, "\(migrate.output)")
            for words in [
                "note: users has soft deletes.",
                "warning: api_logs has a trigger that runs BEFORE INSERT for each row (swallowing",
                "SELECT setval('public.users_id_seq', (SELECT max(id) FROM public.users));",
                "warning: Row-level security hides rows of api_logs from a database role of this installation "
                    + "(role codexflow_admin)",
                "ALTER ROLE \"codexflow_webhook\" BYPASSRLS;",
            ] {
                #expect(migrate.output.contains(words), "\(migrate.output)")
            }
            // As a role that would count a part of Laravel's history only.
            try await database.execute(
                "DELETE FROM metering.schema_migrations WHERE version = \(Migrator.requiredVersion)")
            let refused = try await codexflow(["migrate"], on: database)
            #expect(refused.exitCode == 1)
            #expect(refused.output.contains("hides rows of api_logs"), "\(refused.output)")
            #expect(refused.output.contains("BYPASSRLS"))
            #expect(
                try await database.number("SELECT max(version) FROM metering.schema_migrations")
                    < Migrator.requiredVersion)
        }
    }

    /// With row-level security every key was unknown to an older version, and its events wait.
    @Test func noRemedyDiscardsEventsOfHiddenUsers() async throws {
        try await withTestDatabase { database in
            try await database.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                                 deliveries, is_replayable, next_attempt_at)
                VALUES ('00000000-0000-0000-0000-000000000001', 'unknown_key', '', '{}', now(), now(), 1, true,
                        'infinity')
                """)
            let show = ["quarantine", "show", "00000000-0000-0000-0000-000000000001"]
            #expect(try await codexflow(show, on: database).output.contains("Else discard"))
            #expect(try await codexflow(["doctor"], on: database).output.contains("or discard the events"))
            try await database.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
            let shown = try await codexflow(show, on: database)
            #expect(
                shown.output.contains("Discard nothing before") && !shown.output.contains("Else discard"), "\(shown)")
            let doctor = try await codexflow(["doctor"], on: database)
            #expect(doctor.exitCode == 1)
            #expect(!doctor.output.contains("or discard the events"), "\(doctor.output)")
            for words in [
                "Row-level security hides rows of users from a database role of this installation "
                    + "(role codexflow_webhook)",
                "ALTER ROLE \"codexflow_webhook\" BYPASSRLS;", "Discard nothing before",
            ] {
                #expect(doctor.output.contains(words), "\(doctor.output)")
            }
            // Other commands say what is in the way, too.
            let list = try await codexflow(["user", "list"], on: database)
            #expect(list.exitCode == 1 && list.output.contains("Row-level security hides rows"), "\(list)")
        }
    }

    @Test func aSoftDeletedUserIsMarkedAndNotChanged() async throws {
        try await withTestDatabase { database in
            try await database.execute("ALTER TABLE users ADD deleted_at timestamp(0)")
            try await database.execute(
                """
                INSERT INTO users (name, email, password, api_key, deleted_at)
                VALUES ('Ada', 'a@b.c', 'x', 'cf_ada', now())
                """)
            #expect(try await codexflow(["user", "list"], on: database).output.contains("\tdeleted\t"))
            for command in [
                ["user", "rotate-key", "--email", "a@b.c"], ["user", "verify", "--email", "a@b.c"],
                ["user", "limit", "--email", "a@b.c", "--period", "daily", "--requests", "1"],
            ] {
                let answer = try await codexflow(command, on: database)
                #expect(
                    answer.exitCode == 1 && answer.output.contains("No user has this e-mail."), "\(command) \(answer)")
            }
            #expect(try await database.text("SELECT api_key FROM users") == "cf_ada")
        }
    }
}
