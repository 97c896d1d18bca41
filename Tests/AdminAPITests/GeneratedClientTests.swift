import Foundation
import Postgres
import TestSupport
import Testing

/// A Python client generated from `/openapi.json` type-checks, and reads logs and a report from a running admin-api.
@Suite(.timeLimit(.minutes(30))) struct GeneratedClientTests {
    private static let seed: Query = """
        INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              created_at, updated_at)
        SELECT 1, 'm', 100 + i, 50, 0.25, 1000, 'success', now() AT TIME ZONE 'UTC' - i * interval '1 hour', now()
        FROM generate_series(1, 3) i
        """

    /// A program of the virtual environment that `scripts/test` makes.
    private func python(_ program: String, _ arguments: [String], in folder: URL) async throws -> String {
        let bin = Checkout.root.appending(path: ".local/client/bin").path()
        let environment = ProcessInfo.processInfo.environment.merging(
            ["PYTHONPATH": folder.path(), "PATH": "\(bin):/usr/bin:/bin"]
        ) { $1 }
        return try await Command.run(
            "\(bin)/\(program)", arguments, environment: environment, within: .seconds(300))
    }

    @Test func aGeneratedClientTypeChecksAndReadsLogsAndAReport() async throws {
        try await LiveAdmin.with(seed: Self.seed) { admin in
            let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let address = "http://127.0.0.1:\(admin.port)"
            let package = folder.appending(path: "codexflow_client").path()
            let script = Checkout.root.appending(path: "examples/python-client/read_usage.py").path()
            let warnings = try await python(
                "openapi-python-client",
                [
                    "generate", "--url", "\(address)/openapi.json", "--meta", "none", "--output-path", package,
                ], in: folder
            ).matches(of: /WARNING parsing (.+?) within/).map { String($0.1) }
            // The generator does not know NDJSON, and generates this operation without it.
            #expect(warnings == ["POST /api/webhook/litellm"])
            // client.py is the generator's own text, the same for every document.
            let configuration = folder.appending(path: "mypy.ini")
            try "[mypy]\nstrict = True\n[mypy-codexflow_client.client]\nignore_errors = True\n"
                .write(to: configuration, atomically: true, encoding: .utf8)
            let checked = try await python(
                "mypy",
                [
                    "--config-file", configuration.path(), "--cache-dir", folder.appending(path: "mypy").path(),
                    script, package,
                ], in: folder)
            #expect(checked.hasPrefix("Success: no issues found"), "\(checked)")
            let output = try await python("python", [script, address, try await admin.token(of: 1)], in: folder)
            let lines = output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
            #expect(lines.count == 3, "\(output)")
            #expect(
                lines[0].dropFirst() == ["m", "101", "50", "0.25"]
                    && lines[1].dropFirst() == ["m", "102", "50", "0.25"])
            #expect(lines[2].prefix(2) == ["3", "0.75"] && lines[2].count == 3)
        }
    }
}
