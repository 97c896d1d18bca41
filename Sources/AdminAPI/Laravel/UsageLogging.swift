import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// `POST /api/usage/log`: usage that a user reports. It is stored like an event of the webhook, with the same
/// transaction, counters and keys.
///
/// Only the user vouches for it. So it is off unless the operator sets `ADMIN_USAGE_LOG`. It is bounded by what the
/// user's plan has left, flagged, and not part of the usage of all users.
struct UsageLogging: Sendable {
    let database: Database
    let queue: GroupCommit
    /// Whether the operator accepts reports.
    let isOn: Bool

    private static let fields = [
        RuledField("user_id", .required), RuledField("model", .required, .string, .maximum(255)),
        RuledField("input_tokens", .required, .integer, .minimum(0)),
        RuledField("output_tokens", .required, .integer, .minimum(0)),
        RuledField("total_cost", .required, .numeric, .minimum(0)),
        RuledField("response_time_ms", .required, .integer, .minimum(0)),
        RuledField("status", .required, .choice(EventStatus.allCases.map(\.rawValue))),
        RuledField("error_message", .nullable, .string),
    ]

    var reportUsage: Operation {
        let (number, count) = (Schema.anything, Schema.integer(0...Int.max))
        return Operation(
            "Report a request's usage. With an Idempotency-Key it counts once. "
                + "It counts at most what the plan has left. 403 while ADMIN_USAGE_LOG is off, which is the default.",
            body: Schema.body(
                [
                    "user_id": Schema.integer(1...Int.max), "model": Schema.text(1...255).withExample("gpt-4o"),
                    "input_tokens": count, "output_tokens": count, "total_cost": Schema.amount(below: 8),
                    "response_time_ms": count, "status": Schema.choice(EventStatus.allCases.map(\.rawValue)),
                ], optional: ["error_message": Schema.optional(Schema.text())]
            ).named("UsageReport"), status: .created, whenRepeated: .ok,
            content: [
                (
                    "application/json",
                    JSON.object([
                        "type": "object",
                        "properties": [
                            "user_id": number.withExample(1), "model": Schema.string,
                            "input_tokens": number.withExample(450), "output_tokens": number.withExample(100),
                            "total_cost": Schema.money, "response_time_ms": number.withExample(850),
                            "status": Schema.string, "error_message": Schema.optional(Schema.string),
                            "updated_at": Schema.time, "created_at": Schema.time, "id": Schema.integer,
                            "duplicate": Schema.boolean,
                        ], "required": ["id"],
                    ]).named("StoredUsageReport")
                )
            ]
        ) { try await log($0) }
    }

    private func log(_ request: APIRequest) async throws -> APIResponse {
        guard isOn else {
            throw AppError(
                .forbidden, "Reporting usage is off here. The operator switches it on with ADMIN_USAGE_LOG=on.")
        }
        let cost = request.body["total_cost"]?.decimal.flatMap { Cost($0) }
        var further: [String: String] = [:]
        if cost == nil { further["total_cost"] = "The total cost field must be a number below 100000000." }
        let user = try await reported(request)
        if user == nil { further["user_id"] = "The selected user id is invalid." }
        try ValidationError.check(request.body, Self.fields, further: further)
        guard let user, let cost else { throw ValidationError() }
        guard try request.user.id == user || request.user.isAdmin else {
            throw AppError(.forbidden, "You may only log your own usage.")
        }
        let name = request.http.headers[.idempotencyKey].flatMap { $0.isEmpty ? nil : $0 }
        let event = event(request, of: user, cost: cost, named: name)
        try await requireAllowed(event, of: user, cost: cost, request)
        let verdict = try await queue.submit([IngestItem(.success(event))]).first
        switch verdict {
        case .stored(let id)?: return .json(echo(request, event, cost: cost, id: id), status: .created)
        case .duplicate(let id)?:
            return .json(echo(request, event, cost: cost, id: id).merging(["duplicate": true]))
        case .conflict?:
            throw AppError(.conflict, "This Idempotency-Key was used for another request. Use a new one.")
        case .quarantined(let reason)?:
            return .json(
                ["message": "The call is kept aside.", "reason": .string(reason.rawValue)], status: .accepted)
        case nil: throw AppError(.unavailable, "Nothing was stored. Send the same request again.", retryAfter: 1)
        }
    }

    /// The user of the report; `nil` where the id is no user's. Only administrators learn which ids exist.
    private func reported(_ request: APIRequest) async throws -> Int64? {
        guard let id = request.body["user_id"]?.wholeNumber else { return nil }
        let caller = try request.user
        guard caller.isAdmin, id != caller.id else { return id }
        return try await database.read { try UserProfile.find(id, $0) } == nil ? nil : id
    }

    /// Checks that the user's plan has room for the report.
    ///
    /// - Throws: ``ValidationError`` with the fields that exceed it.
    private func requireAllowed(_ event: UsageEvent, of user: Int64, cost: Cost, _ request: APIRequest) async throws {
        let allowance = try await database.read {
            try ReportAllowance.read(of: user, for: event.key, $0, now: request.now)
        }
        guard let allowance else { return }
        var errors = ValidationError()
        if allowance.requests < 1 {
            errors.add("user_id", ["The plan of this user id has no requests left in this day or month."])
        }
        let tokens = [("input_tokens", event.inputTokens), ("output_tokens", event.outputTokens)]
        let (sum, overflow) = event.inputTokens.addingReportingOverflow(event.outputTokens)
        if overflow || sum > allowance.tokens {
            let alone = tokens.filter { $0.1 > allowance.tokens }
            for (name, _) in alone.isEmpty ? tokens : alone {
                let field = name.replacing("_", with: " ")
                errors.add(name, ["The \(field) field is more than is left of the plan: \(allowance.tokens) tokens."])
            }
        }
        if cost.picodollars > allowance.cost.picodollars {
            errors.add("total_cost", ["The total cost field must not be greater than \(allowance.cost) here."])
        }
        guard errors.isEmpty else { throw errors }
    }

    private func event(_ request: APIRequest, of user: Int64, cost: Cost, named name: String?) -> UsageEvent {
        var generator = SystemRandomNumberGenerator()
        // The user's id is part of the key, so no other user's event can have it.
        let key =
            name.map { EventKey(idempotencyKey: "user \(user) \($0)") }
            ?? EventKey(arrival: request.now, using: &generator)
        return UsageEvent(
            key: key, isIdempotent: name != nil, shape: .documented, identity: IdentityClaim(userID: user),
            status: request.body["status"]?.text.flatMap(EventStatus.init(rawValue:)) ?? .success,
            modelGroup: request.body["model"]?.text ?? "unknown",
            inputTokens: request.body["input_tokens"]?.wholeNumber ?? 0,
            outputTokens: request.body["output_tokens"]?.wholeNumber ?? 0, cost: cost, occurredAt: request.now,
            durationMilliseconds: request.body["response_time_ms"]?.wholeNumber,
            errorMessage: request.body["error_message"]?.text.map { $0.scrubbed().prefix(utf8Count: 8192) },
            flags: [.selfReported])
    }

    /// The log as Laravel answers it: the values as they were sent.
    private func echo(_ request: APIRequest, _ event: UsageEvent, cost: Cost, id: Int64) -> JSON {
        let time = JSON.string(Timestamp(microseconds: request.now.microseconds / 1_000_000 * 1_000_000).laravelText)
        let members = Self.fields.compactMap { field -> JSON.Member? in
            guard let value = request.body[field.name] else { return nil }
            switch (field.name, value) {
            case ("total_cost", _): return .init(field.name, .string(cost.laravelUSD))
            case ("error_message", _): return .init(field.name, event.errorMessage.json)
            case (_, .number): return .init(field.name, value.wholeNumber.json)
            default: return .init(field.name, value)
            }
        }
        return JSON.object(members).merging(["updated_at": time, "created_at": time, "id": .integer(id)])
    }
}
