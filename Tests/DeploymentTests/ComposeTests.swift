import Foundation
import TestSupport
import Testing

/// The compose files, as Debian's docker-compose reads them.
@Suite(.timeLimit(.minutes(30))) struct ComposeTests {
    private struct Project: Decodable {
        var services: [String: Service]
    }

    private struct Service: Decodable {
        var image: String
        var command: [String]?
        var user: String?
        var readOnly: Bool?
        var capDrop: [String]?
        var capAdd: [String]?
        var tmpfs: [String]?
        var entrypoint: [String]?
        var networkMode: String?
        var pidsLimit: Int?
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
    /// What must be set, with passwords that occur nowhere else.
    private static let secrets = [
        "DB_PASSWORD": "the-password-of-the-owner", "DB_HOST": "db.internal",
        "LITELLM_WEBHOOK_KEY": "the-webhook-key-of-32-characters",
        "WEBHOOK_DB_PASSWORD": "the-password-of-the-webhook", "WORKER_DB_PASSWORD": "the-password-of-the-worker",
        "ADMIN_DB_PASSWORD": "the-password-of-the-admin", "OPERATOR_DB_PASSWORD": "the-password-of-the-operator",
    ]

    /// What docker-compose makes of `file` with `settings` as `.env` and nothing in the environment, as JSON.
    private static func configuration(_ file: String, _ settings: [String: String]) async throws -> Data {
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
        return Data(json.utf8)
    }

    private static func services(_ file: String, _ settings: [String: String]) async throws -> [String: Service] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Project.self, from: await configuration(file, settings)).services
    }

    private static let read = Dictionary(
        uniqueKeysWithValues: files.map { file in (file, Task { try await services(file, secrets) }) })

    /// The services of `file` where all is set that must be.
    private func services(_ file: String) async throws -> [String: Service] {
        try await #require(Self.read[file]).value
    }

    @Test(arguments: files) func theStackHasAllServicesAndLiteLLMInAProfile(file: String) async throws {
        let services = try await services(file)
        let database = file == "docker-compose.yml" ? ["postgres"] : []
        let programs = [
            "admin-api", "aggregation-worker", "litellm", "litellm-spool", "migrate", "operator", "webhook-api",
        ]
        #expect(Set(services.keys) == Set(programs + database))
        #expect(
            services.compactMapValues(\.profiles) == [
                "litellm": ["litellm"], "litellm-spool": ["litellm"], "operator": ["operator"],
            ])
    }

    @Test(
        arguments: files,
        [
            "DB_PASSWORD", "LITELLM_WEBHOOK_KEY", "WEBHOOK_DB_PASSWORD", "WORKER_DB_PASSWORD", "ADMIN_DB_PASSWORD",
            "OPERATOR_DB_PASSWORD",
        ])
    func theStackDoesNotStartWithoutAPassword(file: String, name: String) async throws {
        let settings = Self.secrets.merging([name: ""]) { $1 }
        let failure = await #expect(throws: Command.Failure.self) { _ = try await Self.services(file, settings) }
        #expect(try #require(failure).output.contains("set \(name), "))
    }

    @Test(arguments: files) func ourProgramsHaveNoPowerAndAreWatched(file: String) async throws {
        let dockerfile = try Dockerfile()
        let user = try #require(dockerfile.user)
        let ours = try await services(file).filter { $0.value.image.hasPrefix("codexflow:") }
        #expect(
            Set(ours.keys) == [
                "admin-api", "aggregation-worker", "litellm-spool", "migrate", "operator", "webhook-api",
            ])
        for (name, service) in ours {
            // A volume begins as root's: one service gives LiteLLM's to its user, without a network, and ends.
            let isRoot = name == "litellm-spool"
            #expect(service.user == (isRoot ? "0:0" : "\(user.id):\(user.group)"), "\(name)")
            #expect(service.capAdd == (isRoot ? ["CHOWN", "DAC_OVERRIDE", "FOWNER"] : nil), "\(name)")
            #expect((service.networkMode == "none") == isRoot, "\(name)")
            #expect(service.pidsLimit != nil, "\(name)")
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
        #expect(ours["migrate"]?.command == ["codexflow", "migrate", "--roles"])
        for name in ["litellm-spool", "migrate", "operator"] {
            #expect(ours[name]?.healthcheck?.test == ["NONE"])
            #expect(ours[name]?.restart == "no")
        }
    }

    /// The secrets that each service may see. Nothing else of its configuration holds one either, in whatever form.
    private static let allowed: [String: Set<String>] = [
        "postgres": ["DB_PASSWORD"],
        "migrate": [
            "DB_PASSWORD", "MIGRATE_DATABASE_URL", "WEBHOOK_DB_PASSWORD", "WORKER_DB_PASSWORD", "ADMIN_DB_PASSWORD",
            "OPERATOR_DB_PASSWORD",
        ],
        "webhook-api": ["WEBHOOK_DB_PASSWORD", "LITELLM_WEBHOOK_KEY", "LITELLM_WEBHOOK_KEY_PREVIOUS"],
        "aggregation-worker": ["WORKER_DB_PASSWORD"],
        "admin-api": ["ADMIN_DB_PASSWORD", "APP_KEY", "APP_PREVIOUS_KEYS"],
        "operator": [
            "OPERATOR_DB_PASSWORD", "LITELLM_WEBHOOK_KEY", "LITELLM_WEBHOOK_KEY_PREVIOUS", "LITELLM_MASTER_KEY",
            "LITELLM_DATABASE_URL",
        ],
        "litellm": ["LITELLM_WEBHOOK_KEY", "LITELLM_MASTER_KEY"],
        "litellm-spool": [],
    ]

    @Test(arguments: files) func eachServiceSeesItsOwnSecretsAndNoOther(file: String) async throws {
        let form = /KEY|PASSWORD|SECRET|TOKEN(?!S|ABLE|_PREFIX)|DATABASE_URL/
        let names = try Self.exampleNames().filter { $0.contains(form) }
        let secrets = names.filter { !$0.hasSuffix("_TLS_KEY") }
        #expect(Set(secrets).isSuperset(of: Self.allowed.values.reduce([]) { $0.union($1) }))
        let values = Dictionary(uniqueKeysWithValues: secrets.map { ($0, "the-value-of-\($0.lowercased())-") })
        let json = try await Self.configuration(file, values.merging(["DB_HOST": "db.internal"]) { $1 })
        let project = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
        let services = try #require(project["services"] as? [String: Any])
        #expect(Set(services.keys) == Set(Self.allowed.keys).subtracting(file == Self.files[0] ? [] : ["postgres"]))
        for (name, service) in services {
            let text = String(decoding: try JSONSerialization.data(withJSONObject: service), as: UTF8.self)
            let seen = Set(values.filter { text.contains($0.value) }.keys)
            #expect(seen == Self.allowed[name], "\(name)")
        }
    }

    /// One role each, those that `codexflow grants` makes; only `migrate` connects as the owner.
    @Test(arguments: files, ["codexflow", "shop"]) func eachServiceHasARoleOfItsOwn(
        file: String, prefix: String
    ) async throws {
        let settings = Self.secrets.merging(["DB_ROLE_PREFIX": prefix, "DB_USERNAME": "boss"]) { $1 }
        let services = try await Self.services(file, settings)
        let roles = services.compactMapValues { $0.environment?["DB_USERNAME"].flatMap(\.self) }
        #expect(
            roles == [
                "migrate": "boss", "webhook-api": "\(prefix)_webhook", "aggregation-worker": "\(prefix)_worker",
                "admin-api": "\(prefix)_admin", "operator": "\(prefix)_operator",
            ])
        let passwords = services.compactMapValues { $0.environment?["DB_PASSWORD"].flatMap(\.self) }
        #expect(passwords.keys.sorted() == roles.keys.sorted() && Set(passwords.values).count == passwords.count)
    }

    @Test(arguments: files) func litellmHasNoPowerEither(file: String) async throws {
        let litellm = try #require(try await services(file)["litellm"])
        #expect(litellm.user == "10001:10001" && litellm.readOnly == true)
        #expect(litellm.capDrop == ["ALL"] && litellm.capAdd == nil)
        #expect(litellm.securityOpt == ["no-new-privileges:true"])
        #expect(litellm.memLimit != nil && litellm.pidsLimit != nil)
        #expect(litellm.tmpfs?.count == 1 && litellm.healthcheck != nil)
        // An exact version, and not one that was compromised.
        let image = try #require(litellm.image.wholeMatch(of: /ghcr\.io\/berriai\/litellm:v1\.(\d+)\.(\d+)/))
        #expect(try #require(Int(image.1)) >= 109)
    }

    /// LiteLLM's container without a master key of its own ends before LiteLLM starts, and says what to do.
    @Test func litellmDoesNotStartWithoutAMasterKeyOfItsOwn() async throws {
        let webhookKey = "4f1c9e07b2a8d6350f7e41c98b2d60a3"
        let refused = [
            "": "set LITELLM_MASTER_KEY", "sk-\(webhookKey)": "contains LITELLM_WEBHOOK_KEY",
            webhookKey: "contains LITELLM_WEBHOOK_KEY", "sk-4f1c9e07b2a8d635": "contains LITELLM_MASTER_KEY",
            "x\(webhookKey)y": "contains LITELLM_WEBHOOK_KEY", "sk-1234": "shorter than 32",
        ]
        for (masterKey, words) in refused {
            let outcome = try await Self.startLiteLLM(webhookKey, masterKey)
            #expect(outcome.exitCode == 64 && outcome.output.contains(words), "\(masterKey): \(outcome.output)")
            #expect(!outcome.output.contains(webhookKey))
        }
        let started = try await Self.startLiteLLM(webhookKey, "sk-Zk3v9QpLx72TbnWq8sYcH5dRmE4uJaGx")
        #expect(started.exitCode == 0 && started.output == "litellm --port 4000 under 0077\n", "\(started.output)")
    }

    /// Runs what the container runs, with a `litellm` that says how it was called.
    private static func startLiteLLM(
        _ webhookKey: String, _ masterKey: String
    ) async throws -> (exitCode: Int32, output: String) {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let litellm = folder.appending(path: "litellm")
        try "#!/bin/sh\necho \"litellm $* under $(umask)\"\n".write(to: litellm, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: litellm.path())
        let process = try ServiceProcess.start(
            path: "/bin/sh",
            arguments: [Checkout.root.appending(path: "integrations/litellm/start").path(), "--port", "4000"],
            environment: [
                "PATH": "\(folder.path()):/usr/bin:/bin", "LITELLM_WEBHOOK_KEY": webhookKey,
                "LITELLM_MASTER_KEY": masterKey,
            ])
        return (try await process.waitForExit(), process.output)
    }

    /// The names of `.env.example`.
    private static func exampleNames() throws -> [String] {
        let example = try String(contentsOf: Checkout.root.appending(path: ".env.example"), encoding: .utf8)
        return example.matches(of: /(?m)^([A-Z_]+)=/).map { String($0.1) }
    }

    /// Every image by an exact version.
    @Test(arguments: files) func noImageMovesByItself(file: String) async throws {
        for (name, service) in try await services(file) where !service.image.hasPrefix("codexflow:") {
            #expect(service.image.contains(/:v?\d+\.\d+/), "\(name) runs \(service.image)")
        }
    }

    @Test(arguments: files) func onlyThisMachineReachesWhatIsPublished(file: String) async throws {
        let ports = try await services(file).values.flatMap { $0.ports ?? [] }
        #expect(ports.count >= 2)
        #expect(ports.allSatisfy { $0.hasPrefix("127.0.0.1:") }, "\(ports)")
    }

    @Test func theServicesStartInOrder() async throws {
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
        let names = try Self.exampleNames()
        let elsewhere: Set = [
            // The five DB_ variables say it; files are not in the image, which knows its own migrations.
            "DATABASE_URL", "ADMIN_DATABASE_URL", "WORKER_DATABASE_URL", "OPERATOR_DATABASE_URL", "MIGRATIONS_PATH",
            "WEBHOOK_TLS_CERTIFICATE", "WEBHOOK_TLS_KEY",
            // Where the port is published; in its container the service listens on all addresses.
            "WEBHOOK_HOST", "WEBHOOK_PORT", "ADMIN_HOST", "ADMIN_PORT", "WORKER_HOST", "WORKER_PORT",
            // Files again; the folder of sessions is mounted.
            "ADMIN_TLS_CERTIFICATE", "ADMIN_TLS_KEY", "SESSION_FILES",
            // What compose itself reads.
            "CODEXFLOW_VERSION", "COMPOSE_FILE", "LITELLM_IMAGE", "LITELLM_PORT",
            // By hand: migrate connects as the owner of the whole database.
            "OWNER_DB_PASSWORD",
        ]
        let values = Dictionary(uniqueKeysWithValues: names.map { ($0, "value-of-\($0.lowercased())") })
        let services = try await Self.services(
            "docker-compose.external.yml", values.filter { !elsewhere.contains($0.key) })
        let given = ["operator", "admin-api", "aggregation-worker", "litellm", "webhook-api", "migrate"]
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
