import Foundation
import TestSupport
import Testing

/// SwiftPM lets a target import what its dependencies depend on. The rule of `docs/architecture.md` is stricter.
@Suite(.timeLimit(.minutes(30))) struct ImportDirectionTests {
    /// The targets of this package that each target may import.
    private static let allowed: [String: Set<String>] = [
        "CSimdjson": [],
        "Postgres": ["CLibPQ"],
        "Domain": [],
        "LiteLLM": ["CSimdjson", "Domain"],
        "Passwords": ["CCrypt"],
        "Storage": ["Domain", "Postgres"],
        "Analytics": ["Domain", "Postgres", "Storage"],
        "Bootstrap": ["CMalloc", "Domain", "Postgres"],
        "HTTPSupport": ["Bootstrap", "CZlib", "Domain", "Postgres"],
        "WebhookAPI": ["Bootstrap", "Domain", "HTTPSupport", "LiteLLM", "Postgres", "Storage"],
        "AdminAPI": ["Analytics", "Bootstrap", "Domain", "HTTPSupport", "Passwords", "Postgres", "Storage"],
        "AggregationWorker": ["Analytics", "Bootstrap", "Domain", "HTTPSupport", "Postgres", "Storage"],
        "CodexFlow": [
            "Analytics", "Bootstrap", "Domain", "HTTPSupport", "LiteLLM", "Passwords", "Postgres", "Storage",
        ],
        "TestSupport": ["Analytics", "Domain", "Postgres", "Storage"],
        "Faults": ["TestSupport"],
        "Bench": ["Analytics", "Domain", "LiteLLM", "Postgres", "Storage", "TestSupport"],
    ]

    /// Modules of C headers.
    private static let system: Set<String> = ["CCrypt", "CLibPQ", "CMalloc", "CZlib"]

    /// Libraries of others that a target must not know.
    private static let forbidden: [String: Set<String>] = [
        "Domain": ["Hummingbird", "Logging", "NIOCore"],
        "LiteLLM": ["Hummingbird", "Logging", "NIOCore"],
        "Storage": ["Hummingbird", "HummingbirdCore", "CLibPQ"],
        "Analytics": ["Hummingbird", "HummingbirdCore", "CLibPQ"],
        "Bootstrap": ["Hummingbird", "HummingbirdCore"],
        "HTTPSupport": ["CLibPQ"],
    ]

    @Test(arguments: allowed.keys.sorted())
    func aTargetImportsOnlyDownwards(target: String) throws {
        let imports = try Self.imports(of: target)
        let own = Self.system.union(Self.allowed.keys)
        let wrong = imports.intersection(own).subtracting(Self.allowed[target] ?? [])
        #expect(wrong.isEmpty, "\(target) imports \(wrong.sorted())")
        #expect(imports.isDisjoint(with: Self.forbidden[target] ?? []))
    }

    @Test func everyTargetIsKnown() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.sources)
        #expect(Set(folders) == Self.system.union(Self.allowed.keys).subtracting(Self.besideSources.keys))
    }

    @Test func theDriverNamesNoTable() throws {
        for file in try Self.files(of: "Postgres") {
            let text = try String(contentsOfFile: file, encoding: .utf8)
            #expect(!text.contains("public.") && !text.contains("metering."), "\(file) names a table")
        }
    }

    private static let sources = Checkout.root.appending(path: "Sources").path()

    /// The folders of the targets that are not below `Sources`.
    private static let besideSources = [
        "TestSupport": "Tests/TestSupport", "Bench": "Tools/Bench", "Faults": "Tools/Faults",
    ]

    private static func files(of target: String) throws -> [String] {
        let folder = Checkout.root.appending(path: besideSources[target] ?? "Sources/\(target)").path()
        return try FileManager.default.subpathsOfDirectory(atPath: folder)
            .filter { $0.hasSuffix(".swift") }.map { "\(folder)/\($0)" }
    }

    private static func imports(of target: String) throws -> Set<String> {
        var modules: Set<String> = []
        for file in try files(of: target) {
            for line in try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n") {
                if let match = line.wholeMatch(of: /(?:(?:package|internal|public|private) )?import (\w+)/) {
                    modules.insert(String(match.1))
                }
            }
        }
        return modules
    }
}
