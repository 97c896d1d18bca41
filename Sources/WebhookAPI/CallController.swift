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
    /// The body of the request.
    private struct Question: Decodable {
        let key: KeyHash

        private enum CodingKeys: String, CodingKey {
            case key = "key_hash"
        }
    }

    let reader: BodyReader
    let pool: ConnectionPool
    let now: @Sendable () -> Timestamp

    /// Answers who holds a key and what this user may still use.
    ///
    /// - Throws: ``AppError`` `.invalid` for a body without a key's hash, `.unavailable` while the database is away.
    @Sendable
    func authorizeKey(_ request: Request, context: AppRequestContext) async throws -> Response {
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

/// What may be called with a key, as JSON. A limit of null is no limit, and money is a decimal string.
struct CallAnswer {
    let allowed: Bool
    let json: JSON

    /// The answer about a key; `nil` if no user holds it.
    init(_ authorization: CallAuthorization?) {
        let reason = authorization.map { $0.refusal?.rawValue } ?? "unknown_key"
        allowed = reason == nil
        json = [
            "user_id": (authorization?.userID).json, "name": (authorization?.name).json,
            "plan": (authorization?.plan).json, "status": (authorization?.status).json,
            "allowed": .bool(reason == nil), "reason": reason.json,
            "models": (authorization?.models).map { .array($0.map(JSON.string)) } ?? .null,
            "windows": .array((authorization?.windows ?? []).map(\.json)),
        ]
    }
}

extension CallAuthorization.Window {
    fileprivate var json: JSON {
        [
            "period": .string(period.rawValue), "resets_at": .string(resetsAt.rfc3339),
            "requests": requests.json { .integer($0) }, "tokens": tokens.json { .integer($0) },
            "cost": isComputable
                ? cost.json { .string($0.description) } : ["limit": nil, "used": nil, "remaining": "0"],
        ]
    }
}

extension CallAuthorization.Allowance where Amount: Comparable & AdditiveArithmetic {
    fileprivate func json(_ amount: (Amount) -> JSON) -> JSON {
        ["limit": limit.map(amount) ?? .null, "used": amount(used), "remaining": remaining.map(amount) ?? .null]
    }
}
