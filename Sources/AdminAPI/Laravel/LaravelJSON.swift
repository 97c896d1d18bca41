import Domain
import HTTPSupport
import Storage

/// Laravel's shapes (`laravel.md` §3): models with their times in microseconds and decimals as texts.
extension UserProfile {
    var laravelJSON: JSON {
        [
            "id": .integer(id), "name": .string(name), "email": .string(email),
            "email_verified_at": emailVerifiedAt.laravelJSON, "plan": .string(plan), "status": .string(status),
            "created_at": createdAt.laravelJSON, "updated_at": updatedAt.laravelJSON, "is_admin": .bool(isAdmin),
        ]
    }
}

extension LogRow {
    var laravelJSON: JSON {
        [
            "id": .integer(id), "user_id": .integer(userID), "model": .string(model),
            "input_tokens": .integer(inputTokens), "output_tokens": .integer(outputTokens),
            "total_cost": .string((cost ?? .zero).laravelText),
            "response_time_ms": .integer(duration), "status": .string(status), "error_message": errorMessage.json,
            "created_at": createdAt.laravelJSON, "updated_at": updatedAt.laravelJSON,
        ]
    }
}

extension LanguageModel {
    var laravelJSON: JSON {
        [
            "id": .integer(id), "name": .string(name), "model_id": .string(modelID),
            "cost_per_1k_tokens": .string(cost),
            "availability": .bool(isAvailable), "description": description.json, "created_at": createdAt.laravelJSON,
            "updated_at": updatedAt.laravelJSON,
        ]
    }
}

extension [LimitStatus] {
    /// `{daily: {…}, monthly: {…}}`
    var laravelJSON: JSON {
        .object(
            map { status in
                .init(
                    status.period.rawValue,
                    [
                        "limit": .integer(status.tokens.limit), "used": .integer(status.tokens.used),
                        "remaining": .integer(status.tokens.remaining),
                        "limit_requests": .integer(status.requests.limit),
                        "used_requests": .integer(status.requests.used),
                        "remaining_requests": .integer(status.requests.remaining),
                        "reset_at": .string(status.resetsAt.laravelText),
                    ])
            })
    }
}

extension Timestamp? {
    var laravelJSON: JSON { map { .string($0.laravelText) } ?? .null }
}

/// The schemas of these shapes.
extension Schema {
    static let laravelUser = object([
        "id": integer, "name": string, "email": string, "email_verified_at": optional(time), "plan": string,
        "status": string, "created_at": optional(time), "updated_at": optional(time), "is_admin": boolean,
    ])
    static let laravelLog = object([
        "id": integer, "user_id": integer, "model": string, "input_tokens": integer, "output_tokens": integer,
        "total_cost": money, "response_time_ms": integer, "status": string, "error_message": optional(string),
        "created_at": optional(time), "updated_at": optional(time),
    ])
    static let laravelModel = object([
        "id": integer, "name": string, "model_id": string, "cost_per_1k_tokens": money, "availability": boolean,
        "description": optional(string), "created_at": optional(time), "updated_at": optional(time),
    ])
    static let laravelLimits = map(
        of: object([
            "limit": integer, "used": integer, "remaining": integer, "limit_requests": integer,
            "used_requests": integer,
            "remaining_requests": integer, "reset_at": time,
        ]))
}
