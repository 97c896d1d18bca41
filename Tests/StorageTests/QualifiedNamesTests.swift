import Foundation
import TestSupport
import Testing

/// Every statement names the schema of each table: our connections look into `pg_catalog` alone.
@Suite(.timeLimit(.minutes(30))) struct QualifiedNamesTests {
    private static let laravels = [
        "api_logs", "cache", "jobs", "migrations", "models", "password_reset_tokens", "personal_access_tokens",
        "rate_limits", "sessions", "users",
    ]

    /// The tables named without a schema where SQL names one.
    private func unqualified(in text: String) throws -> [String] {
        let names = Self.laravels.joined(separator: "|")
        let word = try Regex<(Substring, Substring)>(
            "\\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|TRUNCATE)\\s+\"?(\(names))\\b(?!\\s*\\()")
        return text.split(separator: "\n").filter { !$0.contains("//") }.flatMap { line in
            line.matches(of: word).map { String($0.1) }
        }
    }

    @Test func noStatementOfTheProgramsLeavesASchemaToTheSearchPath() throws {
        // pgbench runs the naive way beside ours, as Laravel's connection would.
        let exceptions: Set = ["NaiveBenchmark.swift"]
        let root = Checkout.root.appending(path: "Sources")
        let files = try #require(FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil))
        var read = 0
        for case let file as URL in files
        where file.pathExtension == "swift" && !exceptions.contains(file.lastPathComponent) {
            let found = try unqualified(in: String(contentsOf: file, encoding: .utf8))
            #expect(found == [], "\(file.lastPathComponent)")
            read += 1
        }
        #expect(read > 150)
        #expect(
            try unqualified(in: "SELECT FROM users\nUPDATE public.users\nJOIN api_logs l") == ["users", "api_logs"])
    }
}
