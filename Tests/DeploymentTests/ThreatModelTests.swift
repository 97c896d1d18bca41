import Foundation
import TestSupport
import Testing

/// `docs/threat-model.md` promises a test for each defence.
@Suite struct ThreatModelTests {
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

    @Test func everyThreatHasATestThatExists() throws {
        let page = try String(contentsOf: Checkout.root.appending(path: "docs/threat-model.md"), encoding: .utf8)
        let section = try #require(page.split(separator: "\n## ").first { $0.hasPrefix("Threats") })
        let rows = section.split(separator: "\n").filter { $0.hasPrefix("| ") }.map { $0.split(separator: "|") }
            .filter { !["threat", "---"].contains($0.first?.trimmingCharacters(in: .whitespaces)) }
        #expect(rows.count > 40 && rows.allSatisfy { $0.count == 3 })
        let tests = try tests()
        for row in rows {
            let named = row[2].matches(of: /`(\w+)`/).map { String($0.1) }
            #expect(!named.isEmpty, "no test for:\(row[0])")
            for name in named where !tests.contains(name) { Issue.record("there is no test \(name)") }
        }
    }

    /// A range would let a build take what nobody here has seen.
    @Test func everyPackageIsPinned() throws {
        let package = try String(contentsOf: Checkout.root.appending(path: "Package.swift"), encoding: .utf8)
        let lines = package.split(separator: "\n").filter { $0.contains(".package(url:") }
        #expect(lines.count > 5 && lines.allSatisfy { $0.contains(/exact: "\d+\.\d+\.\d+"/) })
        let script = try String(contentsOf: Checkout.root.appending(path: "scripts/test"), encoding: .utf8)
        let tools = script.matches(of: /(?m)^python_tools \w+ (.+)$/).map { String($0.1) }
        #expect(tools.count == 1 && tools.allSatisfy { $0.contains(/^[a-z]+==[\d.]+$/) }, "\(tools)")
    }
}
