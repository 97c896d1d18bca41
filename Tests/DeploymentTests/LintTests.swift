import Foundation
import TestSupport
import Testing

/// `scripts/lint` in a repository of the test's own.
@Suite(.timeLimit(.minutes(30))) struct LintTests {
    /// What the lint reports about `files`, and its exit code. Each subject becomes a commit after the first one.
    private func lint(_ files: [String: String], subjects: [String] = []) async throws -> (code: Int32, output: String)
    {
        let root = FileManager.default.temporaryDirectory.appending(path: "lint-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        for (path, text) in files {
            let file = root.appending(path: path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        let git = ["-C", root.path(), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        try await Command.run("/usr/bin/git", ["init", "--quiet", root.path()])
        try await Command.run("/usr/bin/git", git + ["add", "."])
        for subject in ["Begin"] + subjects {
            try await Command.run("/usr/bin/git", git + ["commit", "--quiet", "--allow-empty", "--message", subject])
        }
        let script = Checkout.root.appending(path: "scripts/lint").path()
        let commits = "HEAD~\(subjects.count)..HEAD"
        let lint = try ServiceProcess.start(path: script, arguments: ["--root", root.path(), "--commits", commits])
        return (try await lint.waitForExit(), lint.output)
    }

    @Test func cleanTextPasses() async throws {
        let link = "See [the page](https://example.com/\(String(repeating: "a", count: 120)))."
        let (code, output) = try await lint(
            [
                "clean/Text.md": "\(link)\n| \(String(repeating: "cell | ", count: 30))\nRead `docs/litellm.md`.\n",
                "docs/litellm.md": "Events.\n", "docs/api.md": "See [LiteLLM](litellm.md).\n",
                "clean/Code.swift": "let unfolded = row.ledger_cost // A service behind a reverse proxy.\n",
                "Tests/ATests/ATests.swift": "@Suite(.timeLimit(.minutes(1))) struct A { @Test func a() {} }\n",
                "migrations/0003_released.sql": "-- everybody's ledger\n",
            ], subjects: [String(repeating: "a", count: 72)])
        #expect(code == 0 && output.isEmpty, "\(output)")
    }

    @Test(arguments: [
        ("clean/Code.swift", String(repeating: "é", count: 121), "clean/Code.swift:1: 121 columns, at most 120"),
        ("clean/migrate.sql", "-- The sums of everybody.", "clean/migrate.sql:1: 'everybody': say all users"),
        ("clean/Code.swift", "struct FoldedRows {}", "clean/Code.swift:1: 'Folded': say roll up"),
        ("clean/code.py", "usageQuarters = 1", "clean/code.py:1: 'usage Quarters': say 15-minute rollups"),
        ("clean/code.py", "ledger_costs = 1", "clean/code.py:1: 'ledger': say integrity check"),
        ("clean/Code.swift", "// Rows behind the watermark.", "clean/Code.swift:1: 'behind': say after"),
        ("clean/Code.swift", "/// As `laravel.md` says.", "clean/Code.swift:1: cites 'laravel.md'"),
        ("clean/Text.md", "[limits](../shared/limits.md)", "clean/Text.md:1: cites '../shared/limits.md'"),
        ("clean/Text.md", "See docs/design.md.", "clean/Text.md:1: cites 'docs/design.md'"),
        ("Tests/ATests/A.swift", "@Suite struct A { @Test func a() {} }", "Tests/ATests/A.swift: a suite without"),
        ("Tests/ATests/A.swift", "struct A { @Test func a() {} }", "Tests/ATests/A.swift: a suite without"),
    ])
    func aFaultFails(path: String, line: String, fault: String) async throws {
        let (code, output) = try await lint([path: "\(line)\n"])
        #expect(code == 1 && output.hasPrefix(fault), "\(output)")
    }

    @Test func aLongSubjectFails() async throws {
        let (code, output) = try await lint([:], subjects: [String(repeating: "a", count: 73), "Short"])
        #expect(code == 1 && output.hasSuffix("73 characters, at most 72\n1 faults\n"), "\(output)")
    }

    /// A range whose first commit is unknown must not look clean.
    @Test func anUnknownRangeFails() async throws {
        let script = Checkout.root.appending(path: "scripts/lint").path()
        let lint = try ServiceProcess.start(path: script, arguments: ["--commits", "nowhere..HEAD"])
        #expect(try await lint.waitForExit() != 0)
    }
}
