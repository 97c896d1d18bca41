import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/quarantine`: events that are not rows, and what can be done about them.
struct AdminQuarantineController: Sendable {
    let database: Database

    /// Entries that one request replays or discards.
    private static let atOnce = 1_000

    private static let ids = Schema.closedBody(
        ["ids": ["type": "array", "items": Schema.uuid, "minItems": 1, "maxItems": .integer(atOnce)]],
        optional: ["answered_404": Schema.boolean])

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/quarantine", .admin, "Events put aside, in the order in which they came.",
                [
                    .repeated(
                        "reason", .choice(QuarantineReason.allCases.map(\.rawValue)), "For one of these reasons."),
                    .query("user_id", .integer(1...Int.max), "Of this user, or of the holder of their key."),
                    .query("model", .text(255), "Of this model."),
                    .query("state", .choice(QuarantineFilter.State.allCases.map(\.rawValue)), "open unless said."),
                    .query("from", .moment, "Received then or later."), .query("to", .moment, "Received before."),
                ] + Parameter.page,
                answers: Schema.page(of: Schema.quarantined), list),
            Endpoint(
                .get, "/api/v1/admin/quarantine/{key}", .admin, "All that is kept of one event.",
                [.path("key", "The event's key, a UUID.")], answers: Schema.quarantined, show),
            Endpoint(
                .post, "/api/v1/admin/quarantine/replay", .admin,
                "Try these now, as deliveries. With answered_404 also those whose sender saw a 404: if it sent them again, "
                    + "they count twice.", body: Self.ids,
                answers: Schema.object([
                    "results": Schema.list(
                        Schema.object([
                            "id": Schema.string, "outcome": Schema.string, "log_id": Schema.optional(Schema.integer),
                        ]))
                ]), replay),
            Endpoint(
                .post, "/api/v1/admin/quarantine/discard", .admin, "Settle these as no rows.", body: Self.ids,
                answers: Schema.object(["discarded": Schema.integer]), discard),
        ]
    }

    @Sendable private func list(_ request: APIRequest) async throws -> APIResponse {
        let cursor = try request.cursor(count: 1).map { parts in
            guard let key = EventKey(parts[0]) else { throw Cursor.invalid }
            return key
        }
        let items = try await database.read { connection in
            let filter = QuarantineFilter(
                state: request.text("state").flatMap(QuarantineFilter.State.init(rawValue:)) ?? .open,
                reasons: Set((request.texts("reason") ?? []).compactMap(QuarantineReason.init(rawValue:))),
                userID: request.integer("user_id").map(Int64.init), model: request.text("model"),
                from: try Period.moment("from", of: request, .utc, connection),
                to: try Period.moment("to", of: request, .utc, connection))
            return try Quarantine.list(filter, after: cursor, limit: request.limit + 1, connection)
        }
        let page = items.prefix(request.limit)
        return .page(page.map(\.json), next: items.count > page.count ? page.last.map { [$0.id.description] } : nil)
    }

    @Sendable private func show(_ request: APIRequest) async throws -> APIResponse {
        guard let key = request.text("key").flatMap({ EventKey($0) }) else {
            throw AppError(.notFound, "An event's key is a UUID; there is none like this.")
        }
        return .json(try await database.read { try Quarantine.require(key, $0) }.json)
    }

    @Sendable private func replay(_ request: APIRequest) async throws -> APIResponse {
        let (ids, now) = (try Self.ids(request), request.now)
        let options = QuarantineReplay.Options(includesRefused: request.body["answered_404"] == true)
        let replay = QuarantineReplay(
            pool: database.pool, writer: EventWriter(pool: database.pool, now: { now }), now: { now })
        let page = try await replay.replay(QuarantineFilter(state: .all, ids: ids), options: options)
        let tried = page.outcomes.filter { if case .verdict = $0.outcome { true } else { false } }
        try await record(tried.map(\.item.id), "quarantine.replay", request)
        return .json([
            "results": .array(
                page.outcomes.map { item, outcome in
                    let (word, log) = outcome.words
                    return ["id": .string(item.id.description), "outcome": .string(word), "log_id": log.json]
                })
        ])
    }

    @Sendable private func discard(_ request: APIRequest) async throws -> APIResponse {
        let (ids, now) = (try Self.ids(request), request.now)
        let filter = QuarantineFilter(ids: ids)
        let (open, count) = try await database.read { connection in
            let open = try Quarantine.list(filter, limit: ids.count, connection).map(\.id)
            return (open, try Quarantine.discard(filter, connection, now: now))
        }
        try await record(open, "quarantine.discard", request)
        return .json(["discarded": .integer(count)])
    }

    /// What was done about which entries; how they are now they say themselves.
    private func record(_ ids: [EventKey], _ action: String, _ request: APIRequest) async throws {
        let actor = try request.actor
        try await database.read {
            try AuditLog.record(action, ofQuarantined: ids, by: actor, at: request.now, $0)
        }
    }

    private static func ids(_ request: APIRequest) throws -> [EventKey] {
        try ValidationError.check(request.body, [RuledField("answered_404", .boolean)])
        let elements = request.body["ids"]?.elements ?? []
        let ids = elements.compactMap { $0.text.flatMap { EventKey($0) } }
        guard !ids.isEmpty, ids.count == elements.count, ids.count <= atOnce else {
            throw ValidationError("ids", "The ids field must be a list of 1 to \(atOnce) keys of events.")
        }
        return ids
    }
}

extension QuarantineReplay.Outcome {
    /// One word, and the row where there is one.
    fileprivate var words: (word: String, logID: Int64?) {
        switch self {
        case .verdict(.stored(let id)): ("stored", id)
        case .verdict(.duplicate(let id)): ("duplicate", id)
        case .verdict(.conflict(let id)): ("conflict", id)
        case .verdict(.quarantined(let reason)): (reason.rawValue, nil)
        case .neverARow: ("never_a_row", nil)
        case .wasRefused: ("answered_404", nil)
        case .unreadableFacts: ("unreadable_facts", nil)
        case .resolvedBefore: ("resolved_before", nil)
        }
    }
}

extension QuarantinedItem {
    fileprivate var json: JSON {
        [
            "id": .string(id.description), "reason": .string(reason.rawValue), "detail": .string(detail),
            "remedy": .string(reason.remedy), "received_at": .string(receivedAt.rfc3339),
            "last_received_at": .string(lastReceivedAt.rfc3339), "deliveries": .integer(deliveries),
            "user_id": userID.json, "key_hashes": .array(keyHashes.map { .string($0.hex) }),
            "event": event?.json ?? .null, "excerpt": excerpt.json,
            "becomes_row_by_itself": .bool(resolution == nil && isReplayable), "attempts": .integer(attempts),
            "resolution": (resolution?.outcome).json, "resolved_at": (resolution?.at).json,
            "log_id": (resolution?.logID).json,
        ]
    }
}

extension UsageEvent {
    fileprivate var json: JSON {
        [
            "shape": .string(shape.rawValue), "status": .string(status.rawValue), "model": .string(modelGroup),
            "provider": provider.json, "occurred_at": .string(occurredAt.rfc3339),
            "input_tokens": .integer(inputTokens), "output_tokens": .integer(outputTokens),
            "cost": (cost?.money.description).json,
            "duration_ms": durationMilliseconds.json, "laravel_user_id": identity.laravelUserID.json,
            "stated_user_id": identity.userID.json, "error_code": errorCode.json, "error_message": errorMessage.json,
            "end_user": endUser.json, "tags": .array(tags.map(JSON.string)),
            "flags": .array(flags.map { .string($0.rawValue) }),
        ]
    }
}

extension Schema {
    private static let event = object([
        "shape": string, "status": string, "model": string, "provider": optional(string), "occurred_at": time,
        "input_tokens": integer, "output_tokens": integer, "cost": optional(money), "duration_ms": optional(integer),
        "laravel_user_id": optional(integer), "stated_user_id": optional(integer), "error_code": optional(string),
        "error_message": optional(string), "end_user": optional(string), "tags": list(string), "flags": flags,
    ])
    fileprivate static let quarantined = object([
        "id": string, "reason": string, "detail": string, "remedy": string, "received_at": time,
        "last_received_at": time, "deliveries": integer, "user_id": optional(integer), "key_hashes": list(string),
        "event": optional(event), "excerpt": optional(string), "becomes_row_by_itself": boolean, "attempts": integer,
        "resolution": optional(string), "resolved_at": optional(time), "log_id": optional(integer),
    ])
}
