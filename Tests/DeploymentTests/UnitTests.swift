import Foundation
import TestSupport
import Testing

/// The units for systemd, with the programs where `scripts/stage` puts them.
@Suite(.timeLimit(.minutes(30))) struct UnitTests {
    private static let units = [
        "codexflow-migrate.service", "webhook-api.service", "admin-api.service", "aggregation-worker.service",
        "aggregation-worker-retain.service",
    ]

    /// Lends `body` a root with systemd's own units, ours and the programs.
    private func withRoot(_ body: (String) async throws -> Void) async throws {
        let stage = try await Image.prepared().stage
        let root = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path()
        defer { try? FileManager.default.removeItem(atPath: root) }
        let ours = Checkout.root.appending(path: "integrations/systemd").path()
        let script = """
            set -e; mkdir -p "$1/etc/systemd" "$1/opt" "$1/usr/lib/systemd"; ln -s usr/lib "$1/lib"
            cp -R /lib/systemd/system "$1/usr/lib/systemd/"; cp -R "$2" "$1/etc/systemd/system"
            cp -R "$3" "$1/opt/codexflow"
            """
        try await Command.run("/bin/sh", ["-c", script, "sh", root, ours, stage])
        try await body(root)
    }

    @Test func systemdUnderstandsThem() async throws {
        try await withRoot { root in
            let verify = [
                "verify", "--man=no", "--recursive-errors=no", "--root=\(root)", "aggregation-worker-retain.timer",
            ]
            let complaints = try await Command.run("/usr/bin/systemd-analyze", verify + Self.units)
            #expect(complaints == "")
        }
    }

    /// The scale of `systemd-analyze security` ends at 10.0, unprotected; the threshold counts tenths.
    @Test(arguments: units) func theProgramsHaveNoPower(unit: String) async throws {
        try await withRoot { root in
            try await Command.run(
                "/usr/bin/systemd-analyze", ["security", "--offline=yes", "--threshold=15", "--root=\(root)", unit])
        }
    }

    @Test func allUnitsAreHardenedAlike() throws {
        let folder = Checkout.root.appending(path: "integrations/systemd")
        let hardening = try Self.units.map { unit -> [Substring] in
            let text = try String(contentsOf: folder.appending(path: unit), encoding: .utf8)
            let lines = text.split(separator: "\n").drop { $0 != "DynamicUser=yes" }
            return lines.prefix { !$0.hasPrefix("[") }.filter { !$0.hasPrefix("User=") }
        }
        #expect(Set(hardening).count == 1 && hardening[0].count > 20)
    }

    /// A program that is broken into gives away its own secrets and no other's.
    @Test func eachUnitHasAUserAndSecretsOfItsOwn() throws {
        let folder = Checkout.root.appending(path: "integrations/systemd")
        let texts = try Self.units.map { try String(contentsOf: folder.appending(path: $0), encoding: .utf8) }
        let users = texts.flatMap { $0.matches(of: /(?m)^User=(.+)$/).map { String($0.1) } }
        #expect(Set(users).count == Self.units.count && !users.contains("root"))
        for (unit, text) in zip(Self.units, texts) {
            let files = text.matches(of: /(?m)^EnvironmentFile=(.+)$/).map { String($0.1) }
            // Without its own file a unit does not start.
            let own = unit.replacing(".service", with: ".env")
            #expect(files == ["/etc/codexflow/codexflow.env", "/etc/codexflow/\(own)"], "\(unit)")
            #expect(!text.contains(/(?m)^(Environment|PassEnvironment)=/), "\(unit)")
        }
    }

    @Test func eachFileOfSettingsHoldsTheSecretsOfOneUnit() throws {
        let folder = Checkout.root.appending(path: "integrations/systemd/env")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path()).sorted()
        let settings = try names.map { name -> [String: String] in
            let text = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
            return Dictionary(
                uniqueKeysWithValues: text.matches(of: /(?m)^([A-Z_]+)=(.*)$/).map { (String($0.1), String($0.2)) })
        }
        let secret = /PASSWORD|KEY|DATABASE_URL/
        let secrets = zip(names, settings).map { ($0, $1.keys.filter { $0.contains(secret) }.sorted()) }
        let webhook = ["LITELLM_WEBHOOK_KEY", "LITELLM_WEBHOOK_KEY_PREVIOUS"]
        #expect(
            Dictionary(uniqueKeysWithValues: secrets) == [
                "codexflow.env": [], "webhook-api.env": ["DB_PASSWORD"] + webhook,
                "admin-api.env": ["APP_KEY", "APP_PREVIOUS_KEYS", "DB_PASSWORD"],
                "aggregation-worker.env": ["DB_PASSWORD"], "aggregation-worker-retain.env": ["DB_PASSWORD"],
                "codexflow-migrate.env": ["DB_PASSWORD"],
                "operator.env": ["DB_PASSWORD", "LITELLM_DATABASE_URL", "LITELLM_MASTER_KEY", "LITELLM_WEBHOOK_KEY"],
            ])
        let roles = zip(names, settings).map { ($0, $1["DB_USERNAME"] ?? "") }
        #expect(
            Dictionary(uniqueKeysWithValues: roles) == [
                "codexflow.env": "", "webhook-api.env": "codexflow_webhook", "admin-api.env": "codexflow_admin",
                "aggregation-worker.env": "codexflow_worker", "aggregation-worker-retain.env": "codexflow_owner",
                "codexflow-migrate.env": "codexflow_owner", "operator.env": "codexflow_operator",
            ])
        // Filled in by the operator, never here.
        #expect(settings.allSatisfy { $0.allSatisfy { !$0.key.contains(secret) || $0.value.isEmpty } })
        let example = try String(contentsOf: Checkout.root.appending(path: ".env.example"), encoding: .utf8)
        for name in settings.flatMap(\.keys) { #expect(example.contains("\n\(name)="), "\(name)") }
    }
}
