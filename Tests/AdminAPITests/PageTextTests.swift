import Domain
import Foundation
import HTTPSupport
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The texts of the pages, and what their templates use.
@Suite(.timeLimit(.minutes(30))) struct PageTextTests {
    private static let pages = Checkout.root.appending(path: "Sources/AdminAPI/Pages")

    /// The contents of the files below `folder` whose names end with `suffix`, by name.
    private static func files(_ folder: URL, _ suffix: String) throws -> [String: String] {
        let paths = try FileManager.default.subpathsOfDirectory(atPath: folder.path()).filter { $0.hasSuffix(suffix) }
        return try Dictionary(
            uniqueKeysWithValues: paths.map { path in
                (path, String(decoding: try Data(contentsOf: folder.appending(path: path)), as: UTF8.self))
            })
    }

    private static func templates() throws -> [String: String] { try files(pages, ".mustache") }

    /// Every member of every file of texts, repeated names included.
    private static func members() throws -> [JSON.Member] {
        try files(pages.appending(path: "Resources/texts"), ".json").values.flatMap { file in
            try #require(JSON(parsing: Array(file.utf8))?.members)
        }
    }

    /// What the first group of `pattern` matches in `texts`.
    private static func matches(
        of pattern: Regex<(Substring, Substring)>, in texts: some Sequence<String>
    ) -> Set<String> {
        Set(texts.flatMap { $0.matches(of: pattern).map { String($0.output.1) } })
    }

    @Test func everyTextHasOneNameAndBothLanguages() throws {
        let members = try Self.members()
        let counts = Dictionary(grouping: members, by: \.key).mapValues(\.count)
        #expect(counts.filter { $0.value > 1 }.isEmpty)
        for member in members {
            for language in Language.allCases {
                #expect(member.value[language.rawValue]?.text?.isEmpty == false, "\(member.key) \(language)")
            }
            #expect(member.value.members?.count == Language.allCases.count, "\(member.key)")
        }
    }

    @Test func theTextsAreThoseThatThePagesUse() throws {
        let members = try Self.members()
        let names = Set(members.map(\.key))
        let words = members.flatMap { $0.value.members ?? [] }.compactMap(\.value.text)
        let templates = try Self.templates().values + words
        let used = Self.matches(of: /\{\{[#^\/]?t\.([A-Za-z0-9_.]+)\}\}/, in: templates)
        #expect(used.subtracting(names).isEmpty)

        let swift = try Self.files(Checkout.root.appending(path: "Sources/AdminAPI"), ".swift")
        let code = try Array(swift.values) + Array(Self.files(Self.pages, ".js").values)
        let literals = Self.matches(of: /"([a-z0-9_.]+)"/, in: code).union(UsageEvent.Flag.allCases.map(\.rawValue))
        let labels = Self.matches(of: /label\((?:[a-z0-9_]+\.)*([a-z0-9_]+)\)/, in: templates)
            .union(Self.matches(of: /kind: "([a-z_]+)"/, in: code)).map { "\($0)_" }
        let prefixes = Self.matches(of: /"((?:[a-z]+_)+)\\\(/, in: code).union(labels)
        let unused = names.subtracting(used).subtracting(literals)
            .filter { name in !prefixes.contains { name.hasPrefix($0) } }
        #expect(unused.isEmpty)
    }

    @Test func everyFormQuestionAndPartOfATemplateExists() throws {
        let templates = try Self.templates()
        let words = try Self.members().flatMap { $0.value.members ?? [] }.compactMap(\.value.text)
        let forms = Self.matches(of: /\{\{[#^\/]?([a-z_]+)\(/, in: templates.values + words)
        #expect(forms.count > 10)
        #expect(forms.subtracting(View.forms.keys).subtracting(View.tests.keys).isEmpty)
        let parts = Self.matches(of: /\{\{[><]([a-z\-]+)\}\}/, in: templates.values)
        let names = Set(
            templates.keys.compactMap { $0.split(separator: "/").last.map { String($0.dropLast(".mustache".count)) } })
        #expect(parts.contains("layout") && parts.subtracting(names).isEmpty)
    }

    /// The operations that a form asks.
    private static let changes: Set = [
        "createUser", "updateUser", "setUserLimits", "setPlanLimits", "createModel", "updateModel", "setFreeModel",
        "answerLimitRequest", "requestIncrease",
    ]

    @Test func everyFieldOfAFormHasWordsForARefusal() async throws {
        let names = Set(try Self.members().map(\.key))
        let bodies = try await AdminBench.with { bench in
            bench.routes.filter { Self.changes.contains($0.operation.id) }.compactMap(\.operation.body)
        }
        #expect(bodies.count == Self.changes.count)
        let fields = bodies.flatMap { $0["properties"]?.members ?? [] }.flatMap { field in
            field.value["properties"]?.members?.map { "\(field.key)_\($0.key)" } ?? [field.key]
        }
        #expect(Set(fields.map { "invalid_\($0)" }).subtracting(names).isEmpty)
    }

    @Test func everyReasonCheckAndActionHasWords() throws {
        let names = Set(try Self.members().map(\.key))
        let reasons = QuarantineReason.allCases.flatMap { ["reason_\($0.rawValue)", "reason_\($0.rawValue)_do"] }
        let checks = DatabaseCheck.all.filter { $0.name != "schema" }.map { HealthExamination.Line.text(of: $0.name) }
        let levels = HealthExamination.Level.allCases.map { "level_\($0.rawValue)" }
        let storage = try Self.files(Checkout.root.appending(path: "Sources/Storage/Administration"), ".swift")
        let actions = Self.matches(of: /"((?:user|plan|model|limit_request)\.[a-z]+)"/, in: storage.values)
        #expect(actions.count >= 11)
        let needed = reasons + checks + levels + actions.map { "action_\($0)" }
        #expect(Set(needed).subtracting(names).isEmpty)
    }
}
