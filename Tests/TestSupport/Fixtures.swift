internal import Foundation

/// The captured bodies and golden requests in `Tests/Fixtures`.
package enum Fixtures {
    /// A fixture cannot be found or read.
    package struct Missing: Error {
        package var path: String
    }

    /// A body as LiteLLM posted it, byte for byte.
    package struct Body: Sendable {
        /// The LiteLLM version and the case, as in `1.109.1/cache_hits`.
        package var name: String
        package var bytes: [UInt8]
    }

    /// Every captured body of LiteLLM's, by name.
    ///
    /// Throws ``Missing`` where there is none.
    package static func litellm() throws -> [Body] {
        try files(in: "litellm").map { Body(name: $0.name, bytes: Array($0.data)) }
    }

    /// The captured body `name`.
    ///
    /// Throws ``Missing`` where there is none.
    package static func litellm(_ name: String) throws -> [UInt8] {
        guard let body = try litellm().first(where: { $0.name == name }) else { throw Missing(path: name) }
        return body.bytes
    }

    static func files(in folder: String) throws -> [(name: String, data: Data)] {
        let root = try root(containing: folder)
        let paths = FileManager.default.enumerator(atPath: root.path())?.compactMap { $0 as? String } ?? []
        let files = try paths.filter { $0.hasSuffix(".json") }.sorted().map { path in
            (String(path.dropLast(".json".count)), try Data(contentsOf: root.appending(path: path)))
        }
        guard !files.isEmpty else { throw Missing(path: root.path()) }
        return files
    }

    /// The folder or file `path` of the fixtures, found from this file upwards.
    private static func root(containing path: String) throws -> URL {
        var parent = URL(filePath: #filePath).resolvingSymlinksInPath()
        while parent.path() != "/" {
            parent.deleteLastPathComponent()
            let candidate = parent.appending(path: "Tests/Fixtures/\(path)")
            if FileManager.default.fileExists(atPath: candidate.path()) { return candidate }
        }
        throw Missing(path: path)
    }
}

extension Fixtures {
    /// The schema that Laravel's own migrations make, as `pg_dump` wrote it.
    ///
    /// Throws ``Missing`` where there is none.
    package static func laravelSchema() throws -> String {
        let file = try root(containing: "laravel/schema.sql")
        return String(decoding: try Data(contentsOf: file), as: UTF8.self)
    }
}
