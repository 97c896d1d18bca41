package import Domain
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
    /// - Throws: ``Missing`` when there is none.
    package static func litellm() throws -> [Body] {
        try files(in: "litellm").map { Body(name: $0.name, bytes: Array($0.data)) }
    }

    /// The captured body `name`.
    ///
    /// - Throws: ``Missing`` when there is none.
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
    /// - Throws: ``Missing`` when there is none.
    package static func laravelSchema() throws -> String {
        let file = try root(containing: "laravel/schema.sql")
        return String(decoding: try Data(contentsOf: file), as: UTF8.self)
    }

    /// What an `aggregation-worker` of version 20 sends to PostgreSQL in one pass, over five logs.
    ///
    /// - Throws: ``Missing`` when there is none.
    package static func olderWorker() throws -> String {
        let file = try root(containing: "older/aggregation-worker-20.sql")
        return String(decoding: try Data(contentsOf: file), as: UTF8.self)
    }
}

/// A recorded request to Laravel, with its answer and the log that it made (`Tests/Fixtures/laravel/goldens`).
package struct GoldenRequest: Sendable {
    package let name: String
    package let method: String
    package let path: String
    package let headers: [(String, String)]
    package let body: [UInt8]
    /// Whether the request had a body.
    package let hasBody: Bool
    package let status: Int
    package let responseBody: String
    /// `user_id|model|input_tokens|output_tokens|total_cost|response_time_ms|status` of the first new row of
    /// `api_logs`.
    package let row: String?
}

extension Fixtures {
    /// Every golden request to the webhook that has a body, by name.
    ///
    /// - Throws: ``Missing`` when there is none; what decoding throws.
    package static func webhookGoldens() throws -> [GoldenRequest] {
        try goldens { $0.contains("webhook") }.filter(\.hasBody)
    }

    /// Every golden request to the other routes of `/api`, by name.
    ///
    /// - Throws: ``Missing`` when there is none; what decoding throws.
    package static func apiGoldens() throws -> [GoldenRequest] {
        try goldens { name in !["webhook", "verbatim", "_admin_"].contains(where: name.contains) }
            .filter { $0.path.hasPrefix("/api/") }
    }

    private static func goldens(_ isMeant: (String) -> Bool) throws -> [GoldenRequest] {
        try files(in: "laravel/goldens").filter { isMeant($0.name) }.map { file in
            let record = try JSONDecoder().decode(Record.self, from: file.data)
            return GoldenRequest(
                name: file.name, method: record.request.method, path: record.request.path,
                headers: record.request.headers.map { ($0[0], $0[1]) }, body: Array((record.request.body ?? "").utf8),
                hasBody: record.request.body != nil, status: record.response.status,
                responseBody: record.response.body ?? "", row: record.dbEffect?.rows.first?.text)
        }
    }

    /// The body that Laravel answered to the golden request `name`.
    ///
    /// - Throws: ``Missing`` when there is none; what decoding throws.
    package static func laravelAnswer(to name: String) throws -> String {
        guard let file = try files(in: "laravel/goldens").first(where: { $0.name == name }),
            let body = try JSONDecoder().decode(Record.self, from: file.data).response.body
        else { throw Missing(path: name) }
        return body
    }

    private struct Record: Decodable {
        struct Request: Decodable {
            let method: String
            let path: String
            let headers: [[String]]
            let body: String?
        }

        struct Response: Decodable {
            let status: Int
            let body: String?
        }

        struct Effect: Decodable {
            let rows: [Row]

            private enum CodingKeys: String, CodingKey {
                case rows = "api_logs_inserted"
            }
        }

        struct Row: Decodable {
            let userID: Int
            let model: String
            let inputTokens: Int
            let outputTokens: Int
            let totalCost: Double
            let responseTime: Int
            let status: String

            private enum CodingKeys: String, CodingKey {
                case model, status
                case userID = "user_id"
                case inputTokens = "input_tokens"
                case outputTokens = "output_tokens"
                case totalCost = "total_cost"
                case responseTime = "response_time_ms"
            }

            var text: String {
                let cost = String(format: "%.6f", totalCost)
                return "\(userID)|\(model)|\(inputTokens)|\(outputTokens)|\(cost)|\(responseTime)|\(status)"
            }
        }

        let request: Request
        let response: Response
        let dbEffect: Effect?

        private enum CodingKeys: String, CodingKey {
            case request, response
            case dbEffect = "db_effect"
        }
    }
}

extension UsageEvent {
    /// 2026-11-23T12:00:00Z, soon after the bodies were captured. It is the present in tests with a fixed clock.
    package static let sampleTime = Timestamp(microseconds: 1_795_435_200_000_000)

    /// A LiteLLM success of 100 and 50 tokens for 0.0015 USD. `id` distinguishes it from others.
    package static func sample(
        _ id: UInt64, by identity: IdentityClaim, at occurredAt: Timestamp, cost: String = "0.0015"
    ) -> UsageEvent {
        UsageEvent(
            key: EventKey(high: UInt64(max(occurredAt.milliseconds, 0)) << 16, low: id), isIdempotent: true,
            shape: .litellm,
            identity: identity, status: .success, modelGroup: "gpt-4", deployment: "openai/gpt-4", provider: "openai",
            callType: "acompletion", inputTokens: 100, outputTokens: 50, cost: DecimalLiteral(cost).flatMap(Cost.init),
            occurredAt: occurredAt, durationMilliseconds: 1250)
    }
}

extension IdentityClaim {
    /// The claim of an event that carries `key` in clear.
    package static func key(_ key: String) -> IdentityClaim {
        IdentityClaim(keyHashes: [KeyHash(of: key)], presentedKey: key)
    }

    /// The claim of an event that carries only the hash of `key`.
    package static func hash(of key: String) -> IdentityClaim {
        IdentityClaim(keyHashes: [KeyHash(of: key)])
    }

    /// The claim of an event that carries only a user id.
    package static func user(_ id: Int64) -> IdentityClaim {
        IdentityClaim(userID: id)
    }
}
