import Foundation

/// A request that Laravel was sent, whole, with its answer and the row it made (`Tests/Fixtures/laravel/goldens`).
package struct GoldenRequest: Sendable {
    package let name: String
    package let method: String
    package let path: String
    package let headers: [(String, String)]
    package let body: [UInt8]
    /// Whether a body was sent at all.
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
    /// Throws ``Missing`` where there is none, and what decoding one throws.
    package static func webhookGoldens() throws -> [GoldenRequest] {
        try goldens { $0.contains("webhook") }.filter(\.hasBody)
    }

    /// Every golden request to the other routes of `/api` as they were meant to answer (`docs/laravel.md`), by name.
    ///
    /// Throws ``Missing`` where there is none, and what decoding one throws.
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
    /// Throws ``Missing`` where there is none, and what decoding it throws.
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
