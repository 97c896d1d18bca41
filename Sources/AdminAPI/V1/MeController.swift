import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// `/api/v1/me`: who asks, and how much of the limits is used.
struct MeController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/me", .user, "Profile, limits and what is used of them.",
                answers: Schema.object([
                    "id": Schema.integer, "name": Schema.string, "email": Schema.string, "plan": Schema.string,
                    "status": Schema.string, "is_admin": Schema.boolean, "created_at": Schema.optional(Schema.time),
                    "limits": Schema.map(of: Schema.window), "limit_requests": Schema.list(Schema.limitRequest),
                    "favorite_models": Schema.list(Schema.string), "as_of": Schema.time,
                ]), me)
        ]
    }

    @Sendable private func me(_ request: APIRequest) async throws -> APIResponse {
        let user = try request.user
        let (limits, wishes, models) = try await database.snapshot { connection in
            (
                try LimitStatus.read(user.id, connection, now: request.now),
                try LimitRequest.list(of: user.id, connection),
                try LanguageModel.list(for: user.id, onlyAvailable: false, connection)
            )
        }
        return .json([
            "id": .integer(user.id), "name": .string(user.name), "email": .string(user.email),
            "plan": .string(user.plan),
            "status": .string(user.status), "is_admin": .bool(user.isAdmin), "created_at": user.createdAt.json,
            "limits": limits.json(now: request.now), "limit_requests": .array(wishes.map(\.json)),
            "favorite_models": .array(models.filter(\.isFavorite).map { .string($0.modelID) }),
            "as_of": .string(request.now.rfc3339),
        ])
    }
}

extension [LimitStatus] {
    /// `{daily: {…}, monthly: {…}}`, with what is left and when it will be used up if usage goes on as in the window so far.
    func json(now: Timestamp) -> JSON {
        .object(
            map { status in
                .init(
                    status.period.rawValue,
                    [
                        "started_at": .string(status.startedAt.rfc3339), "resets_at": .string(status.resetsAt.rfc3339),
                        "is_own": .bool(status.isOwn), "tokens": status.json(status.tokens, now: now),
                        "requests": status.json(status.requests, now: now),
                    ])
            })
    }
}

extension LimitStatus {
    fileprivate func json(_ amount: Amount, now: Timestamp) -> JSON {
        let percent = amount.limit > 0 ? (Double(amount.used) / Double(amount.limit) * 10_000).rounded() / 100 : 100
        return [
            "limit": .integer(amount.limit), "used": .integer(amount.used), "remaining": .integer(amount.remaining),
            "percent": .number(percent.jsonLiteral), "exhausted_at": exhaustion(of: amount, now: now).json,
        ]
    }

    /// When the amount is used up at the pace of the window so far; `nil` where that is after the window's end.
    private func exhaustion(of amount: Amount, now: Timestamp) -> Timestamp? {
        guard amount.used < amount.limit else { return now }
        guard amount.used > 0 else { return nil }
        let elapsed = Double(now.microseconds - startedAt.microseconds)
        let needed = elapsed * (Double(amount.limit) / Double(amount.used))
        guard needed < Double(resetsAt.microseconds - startedAt.microseconds) else { return nil }
        return Timestamp(microseconds: startedAt.microseconds + Int64(needed))
    }
}

extension LimitRequest {
    var json: JSON {
        [
            "id": .integer(id), "user_id": .integer(userID), "period": .string(period.rawValue), "reason": reason.json,
            "requested_at": .string(requestedAt.rfc3339),
            "answer": answer.map { .string($0.isGranted ? "granted" : "refused") } ?? .null,
            "note": (answer?.note).json, "answered_at": (answer?.at).json,
        ]
    }
}

extension Timestamp? {
    /// RFC 3339, or null.
    var json: JSON { map { .string($0.rfc3339) } ?? .null }
}

extension Schema {
    private static let amount = object([
        "limit": integer, "used": integer, "remaining": integer, "percent": number, "exhausted_at": optional(time),
    ])
    static let window = object([
        "started_at": time, "resets_at": time, "is_own": boolean, "tokens": amount, "requests": amount,
    ])
    static let limitRequest = object([
        "id": integer, "user_id": integer, "period": string, "reason": optional(string), "requested_at": time,
        "answer": optional(choice(["granted", "refused"])), "note": optional(string), "answered_at": optional(time),
    ])
}

/// The parameters by which a question names a stretch of time (`design.md` §7).
enum Period {
    static let parameters: [Parameter] = [
        .query("from", .moment, "The first moment; a date, or a time without an offset, is the timezone's."),
        .query("to", .moment, "The first moment behind the last."),
        .query("timezone", .zone, "An IANA name such as Europe/Istanbul; UTC unless said."),
    ]

    private static let standard = Duration.seconds(30 * 86_400)
    private static let quarter = Duration.seconds(900)

    static func zone(of request: APIRequest, _ connection: Connection) throws -> TimeZoneName {
        try request.text("timezone").map { try TimeZoneName.require($0, connection) } ?? .utc
    }

    /// The moment of the parameter `name`.
    static func moment(
        _ name: String, of request: APIRequest, _ zone: TimeZoneName, _ connection: Connection
    ) throws -> Timestamp? {
        guard let text = request.text(name) else { return nil }
        return try Timestamp(rfc3339: text) ?? zone.start(of: text, connection)
    }

    /// The range that the parameters say; the last 30 days up to now where they say nothing.
    static func range(of request: APIRequest, _ connection: Connection) throws -> ReportRange {
        let zone = try zone(of: request, connection)
        let to = try moment("to", of: request, zone, connection) ?? request.now.advanced(by: quarter)
        let from = try moment("from", of: request, zone, connection) ?? to.advanced(by: .zero - standard)
        return try ReportRange(from: from, to: to, zone: zone)
    }
}
