import Foundation
import Postgres
import TestSupport
import Testing

/// The Debian package, made from the programs that were built with the tests.
@Suite(.timeLimit(.minutes(30))) struct DebianPackageTests {
    private static let scripts = Checkout.root.appending(path: "scripts").path()

    @Test func itIsInstalledUpgradedRemovedAndPurgedAndTheDatabaseStays() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let old = try await Self.build(version: "1.0", in: folder)
        let new = try await Self.build(version: "1.1", in: folder)
        #expect(try await Self.complaints(of: new) == "")
        try await withTestDatabase(.empty) { database in
            let report = try await Command.run(
                "\(Self.scripts)/check-deb", [old, new],
                environment: Self.environment(["DATABASE_URL": database.configuration.url]), within: .seconds(900))
            #expect(report.matches(of: /(?m)^ok:/).count == 7, "\(report)")
            // The package migrated this database before it was purged.
            #expect(try await database.number("SELECT count(*) FROM metering.schema_migrations") > 0)
        }
    }

    /// Builds the package with a version into `folder`; its path.
    private static func build(version: String, in folder: String) async throws -> String {
        let stage = try await Image.prepared().stage
        let settings = environment(["VERSION": version, "COMPRESSION": "none"])
        let output = try await Command.run(
            "\(scripts)/deb", [folder, stage], environment: settings, within: .seconds(600))
        return String(try #require(output.split(separator: "\n").last))
    }

    /// What lintian finds wrong with a package, except that this one is not compressed.
    private static func complaints(of package: String) async throws -> String {
        let parts = ["control", "data"].map { "uses-no-compression-for-\($0)-tarball" }
        let options = ["--allow-root", "--suppress-tags", parts.joined(separator: ",")]
        return try await Command.run("/usr/bin/lintian", options + [package], within: .seconds(600))
    }

    private static func environment(_ settings: [String: String]) -> [String: String] {
        ProcessInfo.processInfo.environment.merging(settings) { $1 }
    }
}
