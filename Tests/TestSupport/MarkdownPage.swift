internal import Foundation

/// A Markdown page of this checkout, as the tests of documents read it.
package struct MarkdownPage: Sendable {
    /// Where a link stands, and where it leads.
    package struct Link: Sendable {
        package let line: Int
        package let target: String
    }

    /// A fenced block of code.
    package struct Block: Sendable {
        /// The word after the fence, such as `sh`.
        package let language: String
        package let text: String
        /// Whether a comment above it says that it runs as it is written beside a `make run`.
        package let isRunnable: Bool
    }

    /// There is no such block on the page.
    package struct MissingBlock: Error {
        let text: String
        let path: String
    }

    /// The path from the checkout's folder.
    package let path: String
    package let lines: [String]
    package private(set) var blocks: [Block] = []
    /// The lines that are in no block, by their number from 1.
    package private(set) var prose: [(number: Int, text: String)] = []

    package var text: String { lines.joined(separator: "\n") }

    /// Reads the page at `path`, such as `docs/api.md`.
    ///
    /// - Throws: What Foundation throws where it cannot be read.
    package init(_ path: String) throws {
        self.path = path
        lines = try String(contentsOf: Checkout.root.appending(path: path), encoding: .utf8)
            .components(separatedBy: "\n")
        var open: (language: String, first: Int)?
        for (index, line) in lines.enumerated() {
            let start = line.trimmingPrefix { $0 == " " }
            if start.hasPrefix("```"), let block = open {
                let text = lines[block.first..<index].joined(separator: "\n")
                let above = block.first > 1 ? lines[block.first - 2] : ""
                blocks.append(Block(language: block.language, text: text, isRunnable: above == "<!-- runnable -->"))
                open = nil
            } else if start.hasPrefix("```") {
                open = (String(start.dropFirst(3)), index + 1)
            } else if open == nil {
                prose.append((index + 1, line))
            }
        }
    }

    /// Every page of the checkout, those aside that a build or `make run` has made.
    ///
    /// - Throws: What Foundation throws where one cannot be read.
    package static func all() throws -> [MarkdownPage] {
        let root = Checkout.root.path()
        let folders = ["", "docs", "Tests", "Tools", "Sources", "integrations", "migrations", "scripts", "examples"]
        var paths: Set<String> = []
        for folder in folders {
            let place = root + (root.hasSuffix("/") ? "" : "/") + folder
            let entries =
                folder.isEmpty
                ? try FileManager.default.contentsOfDirectory(atPath: place)
                : (try? FileManager.default.subpathsOfDirectory(atPath: place)) ?? []
            paths.formUnion(
                entries.filter { $0.hasSuffix(".md") }.map { folder.isEmpty ? $0 : "\(folder)/\($0)" })
        }
        return try paths.sorted().map(MarkdownPage.init)
    }

    /// The first block of `language` that has `text` in it.
    ///
    /// - Throws: ``MissingBlock``.
    package func block(_ language: String, with text: String) throws -> String {
        let found = blocks.first { $0.language == language && $0.text.contains(text) }
        guard let found else { throw MissingBlock(text: text, path: path) }
        return found.text
    }

    /// The links in the prose, images too.
    package var links: [Link] {
        prose.flatMap { number, text in
            text.replacing(/`[^`]*`/, with: "`code`").matches(of: /\]\(([^()\s]+)\)/)
                .map { Link(line: number, target: String($0.1)) }
        }
    }

    /// The anchors of the headings, as GitHub makes them.
    package var anchors: Set<String> {
        var counts: [String: Int] = [:]
        var anchors: Set<String> = []
        for (_, line) in prose {
            guard let heading = line.wholeMatch(of: /#{1,6} +(.+)/)?.1 else { continue }
            let text = heading.replacing(/\[([^\]]*)\]\([^)]*\)/) { $0.1 }
            let kept = text.lowercased().filter { $0.isLetter || $0.isNumber || "-_ ".contains($0) }
            let anchor = kept.replacing(" ", with: "-")
            let count = counts[anchor, default: 0]
            anchors.insert(count == 0 ? anchor : "\(anchor)-\(count)")
            counts[anchor] = count + 1
        }
        return anchors
    }

    /// The rows of the tables in the section with this heading, without heads, as their cells.
    package func rows(of section: String) -> [[String]] {
        guard let start = prose.firstIndex(where: { $0.text.wholeMatch(of: /#+ +(.+)/)?.1 == section[...] }) else {
            return []
        }
        let level = prose[start].text.prefix { $0 == "#" }.count
        let body = prose[(start + 1)...].prefix { line in
            let marks = line.text.prefix { $0 == "#" }.count
            return marks == 0 || marks > level
        }.map(\.text)
        return body.indices.filter { index in
            let isHead = index + 1 < body.endIndex && body[index + 1].hasPrefix("|---")
            return body[index].hasPrefix("|") && !body[index].hasPrefix("|---") && !isHead
        }.map { index in
            // A bar in a cell is written with a backslash.
            body[index].replacing("\\|", with: "\u{1}").split(separator: "|")
                .map { $0.replacing("\u{1}", with: "|").trimmingCharacters(in: .whitespaces) }
        }
    }
}
