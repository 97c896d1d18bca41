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

/// Laravel's `LengthAwarePaginator` as JSON, its keys in order.
struct Paginator: Sendable {
    let path: String
    let number: Int
    let size: Int
    let total: Int

    private var last: Int { max(1, (total + size - 1) / size) }

    /// The page with its rows.
    func json(_ rows: [JSON]) -> JSON {
        let first = rows.isEmpty ? nil : (number - 1) * size + 1
        return [
            "current_page": .integer(number), "data": .array(rows), "first_page_url": .string(url(1)),
            "from": first.json,
            "last_page": .integer(last), "last_page_url": .string(url(last)), "links": .array(links),
            "next_page_url": next.map(url).json, "path": .string(path), "per_page": .integer(size),
            "prev_page_url": previous.map(url).json, "to": first.map { $0 + rows.count - 1 }.json,
            "total": .integer(total),
        ]
    }

    private var previous: Int? { number > 1 ? number - 1 : nil }
    private var next: Int? { number < last ? number + 1 : nil }

    private func url(_ page: Int) -> String { "\(path)?page=\(page)" }

    private var links: [JSON] {
        [link(previous, label: "&laquo; Previous")]
            + window.map { page in page.map { link($0, label: "\($0)", isActive: $0 == number) } ?? Self.gap }
            + [link(next, label: "Next &raquo;")]
    }

    private static let gap: JSON = ["url": nil, "label": "...", "active": false]

    private func link(_ page: Int?, label: String, isActive: Bool = false) -> JSON {
        ["url": page.map(url).json, "label": .string(label), "page": page.json, "active": .bool(isActive)]
    }

    /// The pages with a link, `nil` for a gap: Laravel's `UrlWindow` with 3 on each side.
    private var window: [Int?] {
        let (side, ends) = (3, 2)
        guard last >= side * 2 + 8 else { return Array(1...last) }
        let edge = side + 4
        let beginning = Array(1...ends), ending = Array((last - ends + 1)...last)
        if number <= edge { return Array(1...(edge + side)) + [nil] + ending }
        if number > last - edge { return beginning + [nil] + Array((last - (edge + side - 1))...last) }
        return beginning + [nil] + Array((number - side)...(number + side)) + [nil] + ending
    }

    /// The schema of a page of such rows.
    static func schema(of row: JSON) -> JSON {
        Schema.object([
            "current_page": Schema.integer, "data": Schema.list(row), "first_page_url": Schema.string,
            "from": Schema.optional(Schema.integer), "last_page": Schema.integer, "last_page_url": Schema.string,
            "links": Schema.list(
                Schema.body(
                    ["url": Schema.optional(Schema.string), "label": Schema.string, "active": Schema.boolean],
                    optional: ["page": Schema.optional(Schema.integer)])),
            "next_page_url": Schema.optional(Schema.string), "path": Schema.string,
            "per_page": Schema.integer, "prev_page_url": Schema.optional(Schema.string),
            "to": Schema.optional(Schema.integer), "total": Schema.integer,
        ])
    }
}
