import Foundation
import TestSupport
import Testing

/// The units for systemd, with the programs where `scripts/stage` puts them.
@Suite(.timeLimit(.minutes(15))) struct UnitTests {
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
            return Array(lines.prefix { !$0.hasPrefix("[") })
        }
        #expect(Set(hardening).count == 1 && hardening[0].count > 20)
    }
}
