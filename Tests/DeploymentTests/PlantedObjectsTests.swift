import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import Postgres
import Storage
import TestSupport
import Testing

/// Nothing that another writer of the database plants runs with the rights of our roles.
@Suite(.timeLimit(.minutes(30))) struct PlantedObjectsTests {
    private static let key = UUID().uuidString
    private static let password = "correct horse battery"

    private func codexflow(
        _ arguments: [String], on database: TestDatabase, as role: DatabaseRole = .operator
    ) async throws -> (exitCode: Int32, output: String) {
        try await run("codexflow", arguments, on: database, as: role)
    }

    private func environment(_ database: TestDatabase, as role: DatabaseRole) -> [String: String] {
        [
            "DATABASE_URL": database.url(as: role), "MIGRATIONS_PATH": Checkout.migrations, "WEBHOOK_PORT": "0",
            "ADMIN_PORT": "0", "LITELLM_WEBHOOK_KEY": Self.key,
        ]
    }

    private func run(
        _ program: String, _ arguments: [String], on database: TestDatabase, as role: DatabaseRole
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try ServiceProcess.start(
            product: program, arguments: arguments, environment: environment(database, as: role))
        return (try await process.waitForExit(within: .seconds(120)), process.output)
    }

    /// Lends `body` a running service's address.
    private func withService(
        _ product: String, on database: TestDatabase, as role: DatabaseRole, _ body: (String) async throws -> Void
    ) async throws {
        let process = try ServiceProcess.start(product: product, environment: environment(database, as: role))
        do {
            try await body("http://127.0.0.1:\(try await process.waitUntilListening())")
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        } catch {
            process.kill()
            throw error
        }
    }

    private func ask(
        _ url: String, posting body: String? = nil, _ headers: [String: String] = [:]
    ) async throws -> (status: Int, body: String) {
        var request = HTTPClientRequest(url: url)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body {
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(string: body))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        return (Int(response.status.code), String(buffer: try await response.body.collect(upTo: 1 << 24)))
    }

    /// As an operator does: by psql, as a superuser, with PostgreSQL's own search path.
    private func psql(_ script: String, on database: TestDatabase) async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).sql")
        defer { try? FileManager.default.removeItem(at: file) }
        try script.write(to: file, atomically: true, encoding: .utf8)
        try await Command.run(
            "/usr/bin/psql",
            [database.configuration.url, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=\(file.path())"])
    }

    @Test func nothingPlantedRunsInAnyProgram() async throws {
        try await withTestDatabase(.empty) { database in
            let planted = try await PlantedObjects(in: database)
            #expect(try await planted.count > 5000)
            let migrated = try await codexflow(["migrate"], on: database, as: .owner)
            #expect(migrated.exitCode == 0, "\(migrated.output)")
            let script = try await codexflow(["grants", "--database", database.name], on: database, as: .owner).output
            try await psql(script, on: database)
            #expect(try await planted.lastRun == nil)

            let user = try await codexflow(
                ["user", "create", "--name", "Ada", "--email", "ada@example.com", "--admin"], on: database)
            let key = String(try #require(user.output.firstMatch(of: /cf_[0-9a-f]{64}/), "\(user.output)").0)
            try await database.execute(
                """
                UPDATE public.users SET password = '$2y$12$77rW18Zl19B9KvzPZ1xjmOGrwQ5kPw3jyMDN39lE1IypyOTo.nTWO'
                """)
            try await ingest(key, on: database)
            #expect(try await planted.lastRun == nil)
            for arguments in [
                ["once"], ["verify"], ["status"], ["rebuild", "--from", "2020-01-01", "--to", "2100-01-01"],
            ] {
                let pass = try await run("aggregation-worker", arguments, on: database, as: .worker)
                #expect(pass.exitCode == 0, "\(arguments): \(pass.output)")
            }
            let retained = try await run("aggregation-worker", ["retain"], on: database, as: .owner)
            #expect(retained.exitCode == 0, "\(retained.output)")
            #expect(try await planted.lastRun == nil)
            try await report(on: database)
            #expect(try await planted.lastRun == nil)
            for arguments in [
                ["schema"], ["doctor"], ["quarantine", "list"], ["quarantine", "replay", "--reason", "unknown_key"],
                ["user", "list"], ["user", "rotate-key", "--email", "ada@example.com"], ["migrate"],
            ] {
                let role: DatabaseRole = arguments == ["migrate"] ? .owner : .operator
                let output = try await codexflow(arguments, on: database, as: role).output
                #expect(!output.contains("planted") || arguments == ["doctor"], "\(arguments): \(output)")
                #expect(!output.contains("cannot be judged"), "\(output)")
            }
            #expect(try await planted.lastRun == nil)
            // The alarm itself works: with `public` in the path, in whichever order, the planted function is the better
            // match.
            for path in ["public", "pg_catalog, public", "public, pg_catalog"] {
                try await database.execute("SELECT setval('public.planted_run', 1, false)")
                await #expect(throws: PostgresError.self) {
                    try await database.pool.withConnection { connection in
                        try connection.transaction { connection in
                            try connection.executeScript("SET LOCAL search_path = \(path)")
                            _ = try connection.query("SELECT lower('A'::varchar)")
                        }
                    }
                }
                #expect(try await planted.lastRun == "lower(character varying)")
            }
        }
    }

    /// A function does not take over the path of its caller either: not in a statement, an index or a trigger of
    /// another's.
    @Test func noFunctionOfOursResolvesNamesByItsCallersPath() async throws {
        let calls = [
            "begin_id_epoch": "", "bucket_middle": "7", "bucket_of": "7",
            "create_events_partition": "'2031-01-01'::date", "day_of": "7", "deleted_users": "", "enter_id_line": "",
            "require_final": "'{}'::uuid[], false",
            "event_facts": "0, 9", "event_key_floor": "pg_catalog.now()", "finite": "1.5", "id_ranges": "0, 9",
            "ids_began_again": "", "is_deleted": "1",
            "is_row_of_event":
                "1, pg_catalog.now()::timestamp, 'm', 1, 1, 'ok', 1, pg_catalog.now(), 'm', 1, 1, 'ok'",
            "joined": "'{1}'::bigint[]", "key_holder": "ARRAY['\\x00'::pg_catalog.bytea], pg_catalog.now()",
            "last_position": "", "log_facts": "0, 9", "log_position": "1", "merged": "'{1}'::bigint[]",
            "plausible_cost": "1.5", "quarter_of": "pg_catalog.now()", "quarter_start": "7",
            "withdrawn": "'{}'::pg_catalog.uuid[]", "without": "'{1}'::bigint[], '{2}'::bigint[]",
        ]
        try await withTestDatabase { database in
            // A row that Laravel wrote, so that each expression is evaluated.
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password) VALUES (1, 'Ada', 'ada@example.com', 'x')
                """)
            try await database.execute(
                """
                INSERT INTO api_logs
                    (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, created_at)
                VALUES (1, 'gpt-4', 1, 2, 0.5, 3, 'success', now())
                """)
            let planted = try await PlantedObjects(in: database)
            let (names, unbound) = try await database.pool(as: .owner).withConnection { connection in
                let all = try connection.query(
                    "SELECT DISTINCT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'metering'::regnamespace")
                // Bound when it was made, or with a path of its own; else it is named here, because it can be neither.
                let unbound = try connection.query(
                    """
                    SELECT p.proname::text FROM pg_proc p
                    WHERE p.pronamespace = 'metering'::regnamespace AND p.prokind <> 'a' AND p.prosqlbody IS NULL
                      AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
                    """)
                return try (
                    all.map { try $0.decode(0, as: String.self) }, unbound.map { try $0.decode(0, as: String.self) }
                )
            }
            #expect(names.count > 10 && Set(names).isSubset(of: calls.keys) && unbound == ["log_facts"])
            try await database.pool.withConnection { connection in
                for (name, arguments) in calls where names.contains(name) {
                    try connection.transaction { connection in
                        try connection.executeScript("SET LOCAL search_path = public")
                        try connection.execute(Query(unsafeSQL: "SELECT metering.\(name)(\(arguments))"))
                    }
                }
            }
            #expect(try await planted.lastRun == nil)
        }
    }

    /// Events of every form, by a known key, by an unknown one, unreadable, and what the module asks before a call.
    private func ingest(_ key: String, on database: TestDatabase) async throws {
        let example = try String(
            contentsOf: Checkout.root.appending(path: "examples/litellm-batch.json.template"), encoding: .utf8)
        let hash = try await database.text(
            "SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\(key), 'UTF8')), 'hex')")
        let batch = example.replacing("@KEY_HASH@", with: try #require(hash)).replacing("@USER_ID@", with: "1")
            .replacing("@SECONDS@", with: String(Int(Date.now.timeIntervalSince1970) - 60))
        let headers = ["X-API-Key": Self.key]
        try await withService("webhook-api", on: database, as: .webhook) { address in
            let documented = #"{"user_id":"\#(key)","usage":{"prompt_tokens":3},"cost":0.1,"event_id":"e-1"}"#
            let url = "\(address)/api/webhook/litellm"
            #expect(try await ask(url, posting: documented, headers).status == 201)
            #expect(try await ask(url, posting: documented, headers).status == 200)
            let stored = try await ask(url, posting: batch, headers)
            #expect(stored.status == 200 && stored.body.contains(#""status":"stored""#), "\(stored.body)")
            let unknown = documented.replacing(key, with: "cf_nobody").replacing("e-1", with: "e-2")
            #expect(try await ask(url, posting: "[\(unknown)]", headers).status < 500)
            #expect(try await ask(url, posting: "not JSON", headers).status < 500)
            #expect(try await ask("\(address)/health/ready").status == 200)
        }
    }

    /// A login, and every report that takes no parameter, as an administrator.
    private func report(on database: TestDatabase) async throws {
        try await withService("admin-api", on: database, as: .admin) { address in
            let login = try await ask(
                "\(address)/api/auth/login",
                posting: #"{"email":"ada@example.com","password":"\#(Self.password)"}"#)
            let token = try #require(login.body.firstMatch(of: /"token":"([^"]+)"/), "\(login.body)").1
            struct Document: Decodable {
                struct Operation: Decodable {}
                var paths: [String: [String: Operation]]
            }
            let document = try await ask("\(address)/openapi.json").body
            let paths = try JSONDecoder().decode(Document.self, from: Data(document.utf8)).paths
            // A stream has no end.
            let finite = paths.filter { $0.key != "/api/v1/stream" }
            let reports = finite.filter { $0.value["get"] != nil && !$0.key.contains("{") }.keys.sorted()
            #expect(reports.count > 20)
            for path in reports {
                let answer = try await ask("\(address)\(path)", ["Authorization": "Bearer \(token)"])
                #expect(answer.status < 500, "\(path): \(answer.status) \(answer.body)")
            }
        }
    }
}
