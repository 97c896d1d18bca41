import Foundation
import Postgres
import TestSupport
import Testing

/// Every Markdown page: its links lead somewhere, and what it names is there.
@Suite(.timeLimit(.minutes(30))) struct DocumentLinkTests {
    @Test func everyLinkLeadsToAFileAndAHeading() throws {
        let pages = try MarkdownPage.all()
        #expect(pages.count > 20)
        var count = 0
        for page in pages {
            for link in page.links where !link.target.contains("://") && !link.target.hasPrefix("mailto:") {
                count += 1
                let parts = link.target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
                let path = parts[0].isEmpty ? page.path : Self.path(of: String(parts[0]), from: page.path)
                guard FileManager.default.fileExists(atPath: Checkout.root.appending(path: path).path()) else {
                    Issue.record("\(page.path):\(link.line): there is no \(path)")
                    continue
                }
                guard parts.count == 2 else { continue }
                let anchor = parts[1].removingPercentEncoding ?? String(parts[1])
                if try !MarkdownPage(path).anchors.contains(anchor) {
                    Issue.record("\(page.path):\(link.line): \(path) has no heading #\(anchor)")
                }
            }
        }
        #expect(count > 100)
    }

    /// `README.md` is for somebody who has never heard of the project.
    @Test func theREADMEIsShort() throws {
        let page = try MarkdownPage("README.md")
        #expect(page.lines.count <= 150)
    }

    @Test func everyPageOfTheDocumentsIsReachedFromTheREADME() throws {
        var reached: Set = ["README.md", "README.tr.md"]
        var waiting = Array(reached)
        while let path = waiting.popLast() {
            for link in try MarkdownPage(path).links where !link.target.contains("://") {
                let target = Self.path(of: String(link.target.prefix { $0 != "#" }), from: path)
                let isPage = target.hasSuffix(".md")
                if isPage, FileManager.default.fileExists(atPath: Checkout.root.appending(path: target).path()),
                    reached.insert(target).inserted
                {
                    waiting.append(target)
                }
            }
        }
        let pages = try MarkdownPage.all().map(\.path).filter { $0.hasPrefix("docs/") }
        #expect(Set(pages).subtracting(reached).isEmpty)
    }

    @Test func linesFitIntoTheirColumns() throws {
        for page in try MarkdownPage.all() where !page.path.hasPrefix("Tests/") {
            for (index, line) in page.lines.enumerated() where line.count > 120 {
                let isTable = line.trimmingCharacters(in: .whitespaces).hasPrefix("|")
                let isLink = line.contains("](") || line.contains("://")
                if !isTable, !isLink { Issue.record("\(page.path):\(index + 1) has \(line.count) columns") }
            }
        }
    }

    /// Paths, also in diagrams and examples, and names of source files alone.
    @Test func everyFileThatAPageNamesIsThere() throws {
        let folders = ["Sources", "Tests", "Tools", "migrations", "integrations", "scripts", "examples"]
        let root = Checkout.root
        var names: Set<String> = []
        for folder in folders {
            let paths = try FileManager.default.subpathsOfDirectory(atPath: root.appending(path: folder).path())
            names.formUnion(paths.map { String($0.split(separator: "/").last ?? "") })
        }
        var count = 0
        for page in try MarkdownPage.all() where page.path.hasPrefix("docs/") || page.path.hasPrefix("README") {
            let paths = page.text.matches(
                of: /(?:^|[^\w\/.-])((?:Sources|Tests|Tools|migrations|integrations|scripts|examples)\/[\w\/.+-]*\w)/)
            for path in paths.map({ String($0.1) }) where !path.contains("NNNN") {
                count += 1
                if !FileManager.default.fileExists(atPath: root.appending(path: path).path()) {
                    Issue.record("\(page.path) names \(path), which is not there")
                }
            }
            for name in page.text.matches(of: /[\w+]+\.(?:swift|sql|py|cpp)\b(?!\.\w)/).map({ String($0.output) })
            where !name.hasPrefix("NNNN") && !["Package.swift", "roles.sql"].contains(name) && !names.contains(name) {
                Issue.record("\(page.path) names \(name), which is not there")
            }
        }
        #expect(count > 80)
    }

    /// The page about the architecture lists the tables that the migrations make, and no page names another one.
    @Test func theTablesAreThoseOfTheSchema() async throws {
        try await withTestDatabase { database in
            let (tables, all) = try await database.pool.withConnection { connection in
                (
                    try connection.query(
                        """
                        SELECT c.relname::text FROM pg_class c
                        WHERE c.relnamespace = 'metering'::regnamespace AND c.relkind IN ('r', 'p')
                          AND NOT c.relispartition
                        """
                    ).map { try $0.decode(0, as: String.self) },
                    try connection.query(
                        """
                        SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'metering'::regnamespace
                        UNION SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'metering'::regnamespace
                        """
                    ).map { try $0.decode(0, as: String.self) }
                )
            }
            let rows = try MarkdownPage("docs/architecture.md").rows(of: "The tables")
            let listed = rows.flatMap { $0[0].matches(of: /`(\w+)`/).map { String($0.1) } }
            #expect(listed.sorted() == tables.sorted())
            let known = Set(all)
            for page in try MarkdownPage.all() where page.path.hasPrefix("docs/") || page.path.hasPrefix("README") {
                for name in page.text.matches(of: /\bmetering\.(\w+)/).map({ String($0.1) }) where !known.contains(name)
                {
                    // An advisory lock has a name of its own.
                    if name != "id_line" { Issue.record("\(page.path) names metering.\(name), which is not there") }
                }
            }
        }
    }

    /// `link` as a path from the checkout's folder.
    private static func path(of link: String, from page: String) -> String {
        var parts = page.split(separator: "/").dropLast().map(String.init)
        for part in link.split(separator: "/") {
            switch part {
            case ".": continue
            case "..": if !parts.isEmpty { parts.removeLast() }
            default: parts.append(part.removingPercentEncoding ?? String(part))
            }
        }
        return parts.joined(separator: "/")
    }
}
