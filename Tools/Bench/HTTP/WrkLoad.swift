import Domain
import Foundation
import TestSupport

/// Requests of one template, made by wrk, which costs far less processor time than a client of ours.
struct WrkLoad: Sendable {
    private let connections: Int
    private let files: [String]
    private let maximumAge: Double

    /// Writes what wrk reads into `site`'s folder. An event is up to `maximumAge` seconds old: LiteLLM sends what it gathered.
    ///
    /// Throws what Foundation throws.
    init(
        _ template: EventTemplate, events: Int, people: Person.Distribution, connections: Int, key: String,
        site: BenchSite
    ) throws {
        let body = template.body(of: events)
        let request = """
            POST /api/webhook/litellm HTTP/1.1\r
            Host: 127.0.0.1\r
            X-API-Key: \(key)\r
            Content-Type: application/json\r
            Content-Length: \(EventTemplate.length(of: body))\r
            \r
            \(body)
            """
        // More than are drawn from in a measurement would only cost wrk its start.
        var generator = SystemRandomNumberGenerator()
        let lines = people.draw(50_000, using: &generator).map { "\($0) \(KeyHash(of: Person.key(of: $0)).hex)" }
        let files = ["request", "people"].map { site.folder.appending(path: $0).path() }
        try request.write(toFile: files[0], atomically: false, encoding: .utf8)
        try lines.joined(separator: "\n").write(toFile: files[1], atomically: false, encoding: .utf8)
        self.files = files
        self.connections = connections
        maximumAge = events > 1 ? 5 : 0
    }

    /// Sends for `seconds` to the service at `port`.
    ///
    /// - Throws: `Command.Failure`; ``WrongResult`` where a request failed.
    func run(port: Int, seconds: Int) async throws -> WrkReport {
        // Ids of this call: 8-4-4 of a UUID's digits, which wrk.lua goes on with.
        let prefix = String(UUID().uuidString.lowercased().prefix(18))
        return try await WrkReport.ofRun(
            connections: connections, seconds: seconds, script: "wrk.lua",
            ["http://127.0.0.1:\(port)", "--"] + files + [prefix, "\(maximumAge)"])
    }
}
