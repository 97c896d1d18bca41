import Domain
import Foundation
import Storage
import TestSupport
import Testing

@testable import Analytics
@testable import Postgres

/// The final SQL of every report is a file of `Snapshots`, which pastes into psql.
@Suite(.timeLimit(.minutes(30))) struct SnapshotTests {
    @Test(arguments: ReportStatement.all)
    func aSnapshotIsTheStatement(_ statement: ReportStatement) throws {
        if ProcessInfo.processInfo.environment["UPDATE_SNAPSHOTS"] == "1" {
            try statement.script.write(to: statement.file, atomically: true, encoding: .utf8)
        }
        let snapshot = try? String(contentsOf: statement.file, encoding: .utf8)
        #expect(snapshot == statement.script, "To accept the change, run the test with UPDATE_SNAPSHOTS=1.")
    }

    @Test func everySnapshotHasAStatement() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: ReportStatement.folder.path())
            .filter { $0.hasSuffix(".sql") }
        #expect(files.sorted() == ReportStatement.all.map(\.file.lastPathComponent).sorted())
    }

    /// As an engineer does: psql runs each file, and explains its statement.
    @Test func everySnapshotPastesIntoPsql() async throws {
        try await withTestDatabase { database in
            for statement in ReportStatement.all {
                let script = try String(contentsOf: statement.file, encoding: .utf8)
                let explained = script.replacing("\nEXECUTE ", with: "\nEXPLAIN EXECUTE ")
                #expect(explained != script)
                for text in [script, explained] {
                    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).sql")
                    defer { try? FileManager.default.removeItem(at: file) }
                    try text.write(to: file, atomically: true, encoding: .utf8)
                    let output = try await Command.run(
                        "/usr/bin/psql",
                        [
                            database.url(as: .admin), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1",
                            "--file=\(file.path())",
                        ])
                    #expect(output.contains("QUERY PLAN") == (text == explained), "\(statement.name)")
                }
            }
        }
    }
}

/// A report's statement with parameters that give it one of its texts.
struct ReportStatement: Sendable, CustomTestStringConvertible {
    /// The name of the snapshot and of the prepared statement.
    var name: String
    /// Which report it is, and where its text stands.
    var about: String
    var query: Query

    var testDescription: String { name }

    static let folder = Checkout.root.appending(path: "Tests/AnalyticsTests/Snapshots")
    var file: URL { Self.folder.appending(path: "\(name).sql") }

    /// The statement as psql takes it.
    var script: String {
        """
        -- \(about)
        -- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
        SET plan_cache_mode = force_generic_plan;
        PREPARE \(name) AS
        \(query.sql);
        EXECUTE \(name)\(values);
        DEALLOCATE \(name);

        """
    }

    /// The values of `$1`, `$2`, …, as psql takes them.
    private var values: String {
        guard query.parameters.count > 0 else { return "" }
        let literals = query.parameters.withPointers { pointers in
            (0..<query.parameters.count).map { index in
                guard let value = pointers?[index] else { return "NULL" }
                return "'\(String(cString: value).replacing("'", with: "''"))'"
            }
        }
        let lines = literals.enumerated().map { index, literal in
            "    \(literal)\(index == literals.count - 1 ? "" : ",") -- $\(index + 1)"
        }
        return " (\n\(lines.joined(separator: "\n"))\n)"
    }
}
