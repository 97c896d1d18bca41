import Foundation
import TestSupport
import Testing

/// The compose files, as Debian's docker-compose reads them.
@Suite(.timeLimit(.minutes(15))) struct ComposeTests {
    private struct Project: Decodable {
        var services: [String: Service]
    }

    private struct Service: Decodable {
        var image: String
        var command: [String]?
        var user: String?
        var readOnly: Bool?
        var capDrop: [String]?
        var securityOpt: [String]?
        var healthcheck: HealthCheck?
        var environment: [String: String?]?
        var dependsOn: [String: [String: String]]?
        var ports: [String]?
        var restart: String?
        var stopGracePeriod: String?
        var memLimit: String?
        var profiles: [String]?
    }

    private struct HealthCheck: Decodable {
        var test: [String]
    }

    private static let files = ["docker-compose.yml", "docker-compose.external.yml"]
    private static let secrets = [
        "DB_PASSWORD": "a-password", "LITELLM_WEBHOOK_KEY": String(repeating: "k", count: 32), "DB_HOST": "db.internal",
    ]

    /// What docker-compose makes of `file` with `settings` as `.env` and nothing in the environment.
    private static func services(_ file: String, _ settings: [String: String]) async throws -> [String: Service] {
        let dotEnv = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).env")
        let lines = settings.map { "\($0.key)=\($0.value)\n" }.joined()
        try lines.write(to: dotEnv, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: dotEnv) }
        let composeFile = Checkout.root.appending(path: file).path()
        // docker-compose is written in Python, and its package brings the library that reads YAML.
        let script = """
            set -e; yaml=$(docker-compose "$@" config)
            printf %s "$yaml" | python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'
            """
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let json = try await Command.run(
            "/bin/sh", ["-c", script, "sh", "--env-file", dotEnv.path(), "--file", composeFile],
            environment: ["PATH": path])
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Project.self, from: Data(json.utf8)).services
    }

    private static let read = Dictionary(
        uniqueKeysWithValues: files.map { file in (file, Task { try await services(file, secrets) }) })

    /// The services of `file` where all is set that must be.
    private func services(_ file: String) async throws -> [String: Service] {
        try await #require(Self.read[file]).value
    }

    @Test(arguments: files) func hasAllServicesAndLiteLLMInAProfile(file: String) async throws {
        let services = try await services(file)
        let database = file == "docker-compose.yml" ? ["postgres"] : []
        let programs = ["admin-api", "aggregation-worker", "litellm", "migrate", "webhook-api"]
        #expect(Set(services.keys) == Set(programs + database))
        #expect(services.compactMapValues(\.profiles) == ["litellm": ["litellm"]])
    }

    @Test(arguments: files, ["DB_PASSWORD", "LITELLM_WEBHOOK_KEY"])
    func refusesToStartWithoutAPassword(file: String, name: String) async throws {
        let settings = Self.secrets.merging([name: ""]) { $1 }
        let failure = await #expect(throws: Command.Failure.self) { _ = try await Self.services(file, settings) }
        #expect(try #require(failure).output.contains("set \(name), "))
    }

    @Test(arguments: files) func ourProgramsHaveNoPowerAndAreWatched(file: String) async throws {
        let dockerfile = try Dockerfile()
        let user = try #require(dockerfile.user)
        let ours = try await services(file).filter { $0.value.image.hasPrefix("codexflow:") }
        #expect(Set(ours.keys) == ["admin-api", "aggregation-worker", "migrate", "webhook-api"])
        for (name, service) in ours {
            #expect(service.user == "\(user.id):\(user.group)", "\(name)")
            #expect(service.readOnly == true, "\(name)")
            #expect(service.capDrop == ["ALL"], "\(name)")
            #expect(service.securityOpt == ["no-new-privileges:true"], "\(name)")
            #expect(service.stopGracePeriod == "30s", "\(name)")
            #expect(service.memLimit != nil, "\(name)")
            #expect(service.healthcheck != nil, "\(name)")
        }
        #expect(ours["webhook-api"]?.command == (try dockerfile.command()))
        #expect(ours["webhook-api"]?.healthcheck?.test == ["CMD"] + (try dockerfile.healthCheck()))
        #expect(ours["aggregation-worker"]?.command == ["aggregation-worker", "run"])
        #expect(ours["admin-api"]?.command == ["admin-api"])
        #expect(ours["admin-api"]?.healthcheck?.test == ["CMD", "admin-api", "--check-health"])
        #expect(ours["migrate"]?.healthcheck?.test == ["NONE"])
        #expect(ours["migrate"]?.restart == "no")
    }

    @Test(arguments: files) func onlyThisMachineReachesWhatIsPublished(file: String) async throws {
        let ports = try await services(file).values.flatMap { $0.ports ?? [] }
        #expect(ports.count >= 2)
        #expect(ports.allSatisfy { $0.hasPrefix("127.0.0.1:") }, "\(ports)")
    }

    @Test func startsInOrder() async throws {
        let own = try await services("docker-compose.yml")
        #expect(own["migrate"]?.dependsOn == ["postgres": ["condition": "service_healthy"]])
        #expect(
            own["webhook-api"]?.dependsOn == [
                "postgres": ["condition": "service_healthy"],
                "migrate": ["condition": "service_completed_successfully"],
            ])
        #expect(own["postgres"]?.healthcheck != nil)
        let external = try await services("docker-compose.external.yml")
        #expect(
            external["webhook-api"]?.dependsOn == ["migrate": ["condition": "service_completed_successfully"]])
    }

    /// A platform's form takes variables and nothing else.
    @Test func everySettingReachesTheProgramsAsAVariable() async throws {
        let example = try String(contentsOf: Checkout.root.appending(path: ".env.example"), encoding: .utf8)
        let names = example.matches(of: /(?m)^([A-Z_]+)=/).map { String($0.1) }
        let elsewhere: Set = [
            // The five DB_ variables say it; files are not in the image, which knows its own migrations.
            "DATABASE_URL", "MIGRATIONS_PATH", "WEBHOOK_TLS_CERTIFICATE", "WEBHOOK_TLS_KEY",
            // Where the port is published; in its container the service listens on all addresses.
            "WEBHOOK_HOST", "WEBHOOK_PORT", "ADMIN_HOST", "ADMIN_PORT",
            // Files again; the folder of sessions is mounted.
            "ADMIN_TLS_CERTIFICATE", "ADMIN_TLS_KEY", "SESSION_FILES",
            // What compose itself reads.
            "CODEXFLOW_VERSION", "COMPOSE_FILE", "LITELLM_IMAGE", "LITELLM_PORT",
        ]
        let values = Dictionary(uniqueKeysWithValues: names.map { ($0, "value-of-\($0.lowercased())") })
        let services = try await Self.services(
            "docker-compose.external.yml", values.filter { !elsewhere.contains($0.key) })
        let given = ["admin-api", "aggregation-worker", "litellm", "migrate", "webhook-api"]
            .compactMap { services[$0]?.environment }
            .reduce(into: [:]) { $0.merge($1) { $1 } }
        for name in names where !elsewhere.contains(name) {
            #expect(given[name] == values[name], "\(name) does not reach its program")
        }
        #expect(services["webhook-api"]?.environment?["MIGRATE_DATABASE_URL"] == nil)
    }

    @Test func litellmIsConfiguredAsTheReadmeSays() throws {
        let file = Checkout.root.appending(path: "integrations/litellm/config.yaml")
        let configuration = try String(contentsOf: file, encoding: .utf8)
        for setting in [
            "callbacks: [\"codexflow.callback\"]", "global_disable_no_log_param: true",
            "custom_auth: codexflow.authenticate",
        ] {
            #expect(configuration.contains(setting))
        }
    }
}
