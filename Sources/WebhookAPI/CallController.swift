import Domain
import Foundation
import HTTPSupport
import Hummingbird
import Logging
import NIOCore
import Postgres
import Storage

/// `POST /api/litellm/authorize`: what LiteLLM's custom_auth asks about a key before it lets a call through.
struct CallController: Sendable {
    /// What is asked.
    private struct Question: Decodable {
        let key: KeyHash

        private enum CodingKeys: String, CodingKey {
            case key = "key_hash"
        }
    }

    let reader: BodyReader
    let pool: ConnectionPool
    let now: @Sendable () -> Timestamp

    /// Who holds a key and what they may still use.
    ///
    /// - Throws: ``AppError`` `.invalid` for a body without a key's hash, `.unavailable` while the database is away.
    @Sendable
    func authorize(_ request: Request, context: AppRequestContext) async throws -> Response {
        let question = try await reader.withBody(of: request, context: context) { bytes in
            try? JSONDecoder().decode(Question.self, from: Data(bytes))
        }
        guard let key = question?.key else {
            throw AppError(.invalid, "Send {\"key_hash\": …}, the SHA-256 of the key in 64 lower-case hex digits.")
        }
        let now = now()
        let authorization: CallAuthorization?
        do {
            authorization = try await pool.withConnection { try CallAuthorization.find(key, $0, now: now) }
        } catch let error as PostgresError {
            throw AppError(error) ?? error
        }
        let answer = CallAnswer(authorization)
        context.log["allowed"] = "\(answer.allowed)"
        return Response(status: .ok, json: answer.json.buffer)
    }
}
