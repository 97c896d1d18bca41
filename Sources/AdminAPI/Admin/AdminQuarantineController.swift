import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/quarantine`: events that could not be stored as logs, and what to do about them.
struct AdminQuarantineController: Sendable {
    let database: Database

    /// Entries that one request replays or discards.
    private static let maximumIDs = 1_000

    private static let ids = Schema.closedBody(
        ["ids": ["type": "array", "items": Schema.uuid, "minItems": 1, "maxItems": .integer(maximumIDs)]],
        optional: ["answered_404": Schema.boolean]
    ).named("QuarantineIDs")

    var listQuarantine: Operation {
        Operation(
            "Quarantined events, in the order in which they arrived.",
            [
                .repeated("reason", .choice(QuarantineReason.allCases.map(\.rawValue)), "Only these reasons."),
                .query("user_id", .integer(1...Int.max), "Only this user, or the owner of the event's key."),
                .query("model", .text(255), "Only this model.", example: "gpt-4o"),
                .query("state", .choice(QuarantineFilter.State.allCases.map(\.rawValue)), "open by default."),
                .query("from", .moment, "Received then or later."),
                .query("to", .moment, "Received before.", example: "2026-11-24T00:00:00Z"),
            ] + Parameter.page, returns: .page("QuarantinePage", of: QuarantinedItem.json)
        ) { request in
            let cursor = try request.cursor(count: 1).map { parts in
                guard let key = EventKey(parts[0]) else { throw Cursor.invalid }
                return key
            }
            let items = try await database.read { connection in
                let (from, to) = try Period.bounds(of: request, .utc, connection)
                let filter = QuarantineFilter(
                    state: request.text("state").flatMap(QuarantineFilter.State.init(rawValue:)) ?? .open,
                    reasons: Set((request.texts("reason") ?? []).compactMap(QuarantineReason.init(rawValue:))),
                    userID: request.integer("user_id").map(Int64.init), model: request.text("model"),
                    from: from, to: to)
                return try Quarantine.list(filter, after: cursor, limit: request.limit + 1, connection)
            }
            return Page(items, limit: request.limit) { [$0.id.description] }
        }
    }

    var getQuarantined: Operation {
        Operation(
            "One quarantined event.",
            [.path("key", "The event's key, a UUID.", example: "019ab1c2-5f10-7000-8000-000000000001")],
            returns: QuarantinedItem.json
        ) { request in
            guard let key = request.text("key").flatMap({ EventKey($0) }) else {
                throw AppError(.notFound, "An event's key is a UUID; there is none like this.")
            }
            return try await database.read { try Quarantine.require(key, $0) }
        }
    }

    var replayQuarantined: Operation {
        Operation(
            "Store these events now. With answered_404, also events whose sender saw a 404. "
                + "If the sender sent them again, they count twice.", body: Self.ids, returns: Self.replayResults
        ) { request in
            let (ids, now) = (try Self.ids(request), request.now)
            let options = QuarantineReplay.Options(includesRefused: request.body["answered_404"] == true)
            let replay = QuarantineReplay(
                pool: database.pool, writer: EventWriter(pool: database.pool, now: { now }), now: { now })
            let page = try await replay.replay(QuarantineFilter(state: .all, ids: ids), options: options)
            let tried = page.outcomes.filter { if case .verdict = $0.outcome { true } else { false } }
            try await record(tried.map(\.item.id), "quarantine.replay", request)
            return page.outcomes.map { ReplayResult(item: $0.item, outcome: $0.outcome) }
        }
    }

    var discardQuarantined: Operation {
        Operation(
            "Close these events without storing them.", body: Self.ids,
            returns: .object("DiscardResult", [Field("discarded", .integer) { (count: Int) in count }])
        ) { request in
            let (ids, now) = (try Self.ids(request), request.now)
            let filter = QuarantineFilter(ids: ids)
            let (open, count) = try await database.read { connection in
                let open = try Quarantine.list(filter, limit: ids.count, connection).map(\.id)
                return (open, try Quarantine.discard(filter, connection, now: now))
            }
            try await record(open, "quarantine.discard", request)
            return count
        }
    }

    /// Writes `action` on these events to the audit log.
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
        guard !ids.isEmpty, ids.count == elements.count, ids.count <= maximumIDs else {
            throw ValidationError("ids", "The ids field must be a list of 1 to \(maximumIDs) keys of events.")
        }
        return ids
    }
}

// What a replay answers, and the fields of it and of a quarantined event.
extension AdminQuarantineController {
    fileprivate struct ReplayResult: Sendable {
        let item: QuarantinedItem
        let outcome: QuarantineReplay.Outcome
    }

    private static let replayResults = JSONType<[ReplayResult]>.object(
        "ReplayResults",
        [
            Field(
                "results",
                .list(
                    .object(
                        "ReplayResult",
                        [
                            Field("id", .string, example: "019ab1c2-5f10-7000-8000-000000000001") {
                                $0.item.id.description
                            }, Field("outcome", .string, example: "stored") { $0.outcome.summary.word },
                            Field("log_id", .nullable(.integer)) { $0.outcome.summary.logID },
                        ]))
            ) { $0 }
        ])
}

extension QuarantineReplay.Outcome {
    /// One word, and the id of the log where there is one.
    fileprivate var summary: (word: String, logID: Int64?) {
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
    fileprivate static let json = JSONType<QuarantinedItem>.object(
        "QuarantinedEvent",
        [
            Field("id", .string, example: "019ab1c2-5f10-7000-8000-000000000001", \.id.description),
            Field("reason", .string, example: "unknown_user", \.reason.rawValue), Field("detail", .string, \.detail),
            Field("remedy", .string, \.reason.remedy), Field("received_at", .time, \.receivedAt),
            Field("last_received_at", .time, \.lastReceivedAt), Field("deliveries", .integer, \.deliveries),
            Field("user_id", .nullable(.integer), \.userID),
            Field("key_hashes", .list(.string)) { $0.keyHashes.map(\.hex) },
            Field("event", .nullable(UsageEvent.json), \.event), Field("excerpt", .nullable(.string), \.excerpt),
            Field("becomes_row_by_itself", .boolean) { $0.resolution == nil && $0.isReplayable },
            Field("attempts", .integer, \.attempts), Field("resolution", .nullable(.string)) { $0.resolution?.outcome },
            Field("resolved_at", .nullable(.time)) { $0.resolution?.at },
            Field("log_id", .nullable(.integer)) { $0.resolution?.logID },
        ])
}

extension UsageEvent {
    fileprivate static let json = JSONType<UsageEvent>.object(
        "Event",
        [
            Field("shape", .string, example: "litellm", \.shape.rawValue),
            Field("status", .string, example: "success", \.status.rawValue),
            Field("model", .string, example: "gpt-4o", \.modelGroup),
            Field("provider", .nullable(.string), example: "openai", \.provider),
            Field("occurred_at", .time, \.occurredAt),
            Field("input_tokens", .integer, example: 450, \.inputTokens),
            Field("output_tokens", .integer, example: 100, \.outputTokens),
            Field("cost", .nullable(.money)) { $0.cost?.money },
            Field("duration_ms", .nullable(.integer), \.durationMilliseconds),
            Field("laravel_user_id", .nullable(.integer), \.identity.laravelUserID),
            Field("stated_user_id", .nullable(.integer), \.identity.userID),
            Field("error_code", .nullable(.string), \.errorCode),
            Field("error_message", .nullable(.string), \.errorMessage),
            Field("end_user", .nullable(.string), \.endUser), Field("tags", .list(.string), \.tags),
            Field("flags", .list(.flag), \.flags),
        ])
}

extension JSONType<UsageEvent.Flag> {
    /// What is special about a log or event, such as `usage_estimated`.
    static var flag: JSONType {
        JSONType(Schema.flag) { .string($0.rawValue) }
    }
}
