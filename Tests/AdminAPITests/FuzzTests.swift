import Domain
import Foundation
import HTTPTypes
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// schemathesis makes requests from `/openapi.json` and compares each answer with it (`scripts/schemathesis.toml`).
///
/// `make test` sends few requests. `make fuzz-api` sets `FUZZ_EXAMPLES`, `FUZZ_PHASES` and `TEST_SEED` to send many.
@Suite(.timeLimit(.minutes(60))) struct FuzzTests {
    enum Persona: String, CaseIterable, Sendable {
        case administrator, user, anonymous
    }

    private static let seed: Query = """
        WITH
        models AS (INSERT INTO models (name, model_id, cost_per_1k_tokens) VALUES ('M', 'm', 1)),
        wishes AS (
            INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
            VALUES (1, 'daily', 'more', now()))
        INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              error_message, created_at, updated_at)
        SELECT u, CASE i % 2 WHEN 0 THEN 'm' ELSE 'say "hi", =x' END, 100, 50, 0.0015, 1000,
               (ARRAY['success', 'error', 'rate_limited'])[i % 3 + 1], CASE WHEN i % 3 = 1 THEN 'boom' END,
               now()::timestamp - i * interval '9 hours', now()
        FROM generate_series(0, 40) i, unnest(ARRAY[1, 2]) u
        """

    /// An administrator who changes users at random demotes or suspends themselves sooner or later. This keeps the run
    /// going.
    private static func keepAdministrator(_ database: TestDatabase) async throws {
        try await database.pool.withConnection { connection in
            try connection.executeScript(
                """
                CREATE FUNCTION keep_administrator() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN NEW.is_admin := true; NEW.status := 'active'; RETURN NEW; END $$;
                CREATE TRIGGER keep_administrator BEFORE UPDATE ON users FOR EACH ROW
                WHEN (OLD.id = \(LiveAdmin.administrator)) EXECUTE FUNCTION keep_administrator()
                """)
        }
    }

    /// Stores an event of a user, which becomes a log, and one of an unknown user, which waits in quarantine.
    private static func store(_ database: TestDatabase) async throws -> String {
        let known = UsageEvent.sample(1, by: .user(1), at: .now)
        let unknown = UsageEvent.sample(2, by: .user(99), at: .now)
        let writer = EventWriter(pool: database.pool(as: .webhook), now: { .now })
        _ = try await writer.write(
            [IngestItem(.success(known)), IngestItem(.success(unknown))], lockedUsers: .quarantine)
        return unknown.key.description
    }

    /// The part of schemathesis' configuration that holds the credentials.
    private static func credentials(_ admin: LiveAdmin, _ persona: Persona) async throws -> String {
        switch persona {
        case .administrator:
            """
            [auth.openapi.token]
            bearer = "\(try await admin.token(of: LiveAdmin.administrator))"
            """
        case .user:
            """
            [headers]
            X-CSRF-TOKEN = "\(LiveAdmin.csrf)"
            [auth.openapi.session]
            api_key = "\(try admin.cookie.value(LiveAdmin.cookieName))"
            """
        case .anonymous: ""
        }
    }

    @Test(arguments: Persona.allCases) func noAnswerIsOutsideTheDocument(persona: Persona) async throws {
        let settings = ProcessInfo.processInfo.environment
        try await LiveAdmin.with(
            ["ADMIN_REGISTRATION": "open", "ADMIN_STREAM_LIFETIME": "100ms"], seed: Self.seed
        ) { admin in
            try await Self.keepAdministrator(admin.database)
            let quarantined = try await Self.store(admin.database)
            let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let rules = try String(
                contentsOf: Checkout.root.appending(path: "scripts/schemathesis.toml"), encoding: .utf8)
            let file = folder.appending(path: "schemathesis.toml")
            try "\(rules)\n\(try await Self.credentials(admin, persona))\n"
                .write(to: file, atomically: true, encoding: .utf8)
            // Logging out would end the token. A session stays, because only Laravel ends it.
            let left = persona == .administrator ? "/api/auth/logout" : "/api/webhook/litellm"
            let output = try await Command.run(
                Checkout.root.appending(path: ".local/fuzz/bin/schemathesis").path(),
                [
                    "--config-file", file.path(), "--no-color",
                    "run", "http://127.0.0.1:\(admin.port)/openapi.json", "--exclude-path", left,
                    "--seed", "\(TestSeed.seed(standard: 1))", "--max-examples", settings["FUZZ_EXAMPLES"] ?? "3",
                    "--phases", settings["FUZZ_PHASES"] ?? "fuzzing",
                ],
                environment: settings.merging([
                    "FUZZ_QUARANTINED": quarantined, "HYPOTHESIS_STORAGE_DIRECTORY": folder.path(),
                ]) { $1 }, within: .seconds(3000))
            print("\(persona): \(output.components(separatedBy: " SUMMARY ").last ?? "")")
            try await Self.requireAsked(admin, persona, except: left)
        }
    }

    /// Every route was asked, and the client was logged in until the end.
    private static func requireAsked(_ admin: LiveAdmin, _ persona: Persona, except left: String) async throws {
        let address = "http://127.0.0.1:\(admin.port)"
        let metrics = try await Command.run("/usr/bin/curl", ["--silent", "--fail", "\(address)/metrics"])
        let pool = admin.database.pool
        let routes = Routes(
            database: Database(pool: pool, exportsAtOnce: 1, timeout: .seconds(1)),
            queue: GroupCommit(writer: EventWriter(pool: pool, now: { .now })),
            signIn: SignInPolicy(
                registration: .open, throttle: LoginThrottle(rate: 60), passwords: PasswordQueue(), passwordCost: 4),
            isBehindProxies: false)
        for route in routes.all where route.path != left {
            let series = #"http_requests_total{method="\#(route.method.rawValue)",route="\#(route.path)","#
            #expect(metrics.contains(series), "\(route.path)")
        }
        let isKnown = metrics.contains(#"{method="GET",route="/api/auth/me",status="200"}"#)
        #expect(isKnown == (persona != .anonymous))
        let rank = try await admin.database.text(
            "SELECT is_admin AND status = 'active' FROM users WHERE id = \(LiveAdmin.administrator)")
        #expect(rank == "true")
    }
}
