import Foundation
import TestSupport
import Testing

/// Pages of `docs/` that promise a test for each line of a table.
@Suite(.timeLimit(.minutes(30))) struct DocumentedTestTests {
    /// Every test of this checkout by its name: Swift's, and those of LiteLLM's module.
    private func tests() throws -> Set<String> {
        var names: Set<String> = []
        for (folder, kind, pattern) in [
            ("Tests", "swift", /\bfunc (\w+)\(/), ("integrations/litellm/tests", "py", /\bdef (test_\w+)\(/),
        ] {
            let root = Checkout.root.appending(path: folder)
            let files = try #require(FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil))
            for case let file as URL in files where file.pathExtension == kind {
                let text = try String(contentsOf: file, encoding: .utf8)
                names.formUnion(text.matches(of: pattern).map { String($0.1) })
            }
        }
        return names
    }

    /// The last column of the tables in a section names a test at least.
    @Test(arguments: [
        ("docs/threat-model.md", "Threats", 3, 40), ("docs/other-writers.md", "What happens, and what is done", 5, 11),
        ("docs/guarantees.md", "Guarantees", 2, 30),
    ])
    func everyLineHasATestThatExists(page: String, section: String, columns: Int, atLeast: Int) throws {
        let rows = try MarkdownPage(page).rows(of: section)
        #expect(rows.count > atLeast && rows.allSatisfy { $0.count == columns })
        let tests = try tests()
        for row in rows {
            let named = row[columns - 1].matches(of: /`(\w+)`/).map { String($0.1) }
            #expect(!named.isEmpty, "no test for: \(row[0])")
            for name in named where !tests.contains(name) { Issue.record("there is no test \(name)") }
        }
    }

    /// A range would let a build take what nobody here has seen.
    @Test func everyPackageIsPinned() throws {
        let package = try String(contentsOf: Checkout.root.appending(path: "Package.swift"), encoding: .utf8)
        let lines = package.split(separator: "\n").filter { $0.contains(".package(url:") }
        #expect(lines.count > 5 && lines.allSatisfy { $0.contains(/exact: "\d+\.\d+\.\d+"/) })
        let script = try String(contentsOf: Checkout.root.appending(path: "scripts/test"), encoding: .utf8)
        let tools = script.matches(of: /(?m)^python_tools \w+ (.+)$/).flatMap { $0.1.split(separator: " ") }
        #expect(tools.count == 3 && tools.allSatisfy { $0.wholeMatch(of: /[a-z-]+==[\d.]+/) != nil }, "\(tools)")
    }
}
