import Domain
import HTTPSupport
import Storage

/// The operator's pages of the quarantine: what waits and why, one event, and replay and discard after a dry run.
struct QuarantinePages: Sendable {
    let database: Database

    private static let path = "/operator/quarantine"
    private static let filters = ["reason", "state"]
    /// Entries that one form replays or discards.
    private static let most = 1_000

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        let summaries = try await database.read { try Quarantine.summarize(QuarantineFilter(), $0) }
        let list = try await request.json(
            "listQuarantine", request.query(Self.filters + ["cursor"]) + [("limit", "50")])
        let items = list["data"]?.elements ?? []
        return .page(
            "quarantine",
            [
                "nothing": request.done(["quarantine_nothing"]),
                "replayed": Self.result("quarantine_replayed", request),
                "discarded": Self.result("quarantine_discarded", request),
                "summaries": .array(summaries.map(Self.summary)), "is_clean": .bool(summaries.isEmpty),
                "open_entries": .integer(summaries.map(\.entries).reduce(0, +)), "items": .array(items),
                "has_none": .bool(items.isEmpty), "next": request.next(of: list, keeping: Self.filters),
                "reasons": FormOption.list(
                    QuarantineReason.allCases.map(\.rawValue), request.query("reason"), kind: "reason"),
                "states": FormOption.list(
                    QuarantineFilter.State.allCases.map(\.rawValue), request.query("state") ?? "open",
                    kind: "entry_state"),
            ])
    }

    @Sendable func showOne(_ request: PageRequest) async throws -> PageAnswer {
        let item = try await request.json("getQuarantined", [("key", request.pathPart("key"))])
        return .page(
            "quarantined",
            [
                "item": item, "advice": .string("reason_\(item["reason"]?.text ?? "")_do"),
                "is_open": .bool(item["resolution"] == .null),
            ])
    }

    @Sendable func change(_ request: PageRequest) async throws -> PageAnswer {
        guard let action = request.field("action"), ["replay", "discard"].contains(action) else {
            throw AppError(.invalid, "There is no such form.")
        }
        let chosen = try await self.chosen(request)
        guard !chosen.isEmpty else { return .redirect("\(Self.path)?done=quarantine_nothing") }
        guard request.field("confirmed") != nil else { return try await tryOut(action, chosen, request) }
        let ids: JSON = .array(chosen.map { .string($0.description) })
        if action == "discard" {
            let count = try await request.json("discardQuarantined", body: ["ids": ids])["discarded"]?.wholeNumber ?? 0
            return Self.redirect("quarantine_discarded", changed: Int(count), of: chosen.count)
        }
        let results = try await request.json(
            "replayQuarantined", body: ["ids": ids, "answered_404": .bool(request.field("answered_404") != nil)])
        let done = results["results"]?.elements?.count { ["stored", "duplicate"].contains($0["outcome"]) } ?? 0
        return Self.redirect("quarantine_replayed", changed: done, of: chosen.count)
    }

    private static func redirect(_ done: String, changed: Int, of count: Int) -> PageAnswer {
        .redirect("\(path)?done=\(done)&changed=\(changed)&left=\(max(count - changed, 0))")
    }

    /// The numbers that a change has put into the query; null after no such change.
    private static func result(_ done: String, _ request: PageRequest) -> JSON {
        guard request.query("done") == done else { return .null }
        return [
            "changed": (request.query("changed").flatMap { Int($0) }).json,
            "left": (request.query("left").flatMap { Int($0) }).json,
        ]
    }

    private static func summary(_ summary: Quarantine.Summary) -> JSON {
        [
            "reason": .string(summary.reason.rawValue), "advice": .string("reason_\(summary.reason.rawValue)_do"),
            "entries": .integer(summary.entries), "oldest": .string(summary.oldest.rfc3339),
            "can_replay": .bool(summary.reason.canBecomeRow), "is_usual": .bool(summary.reason == .denied),
        ]
    }
}

// The dry run.
extension QuarantinePages {
    /// The entries that the form names by their keys, or the oldest open ones of its reason.
    private func chosen(_ request: PageRequest) async throws -> [EventKey] {
        if let ids = request.field("ids") {
            return ids.split(separator: " ").prefix(Self.most).compactMap { EventKey(String($0)) }
        }
        guard let reason = request.field("reason").flatMap(QuarantineReason.init(rawValue:)) else { return [] }
        return try await database.read {
            try Quarantine.list(QuarantineFilter(reasons: [reason]), limit: Self.most, $0).map(\.id)
        }
    }

    /// What the change would do to each entry, and a form that does it to exactly these.
    private func tryOut(_ action: String, _ ids: [EventKey], _ request: PageRequest) async throws -> PageAnswer {
        let includesRefused = request.field("answered_404") != nil
        let results =
            action == "replay"
            ? try await replayed(ids, includesRefused, request.now) : try await discarded(ids)
        let counts = Dictionary(grouping: results) { $0 }.mapValues(\.count)
            .sorted { ($1.value, $0.key.word) < ($0.value, $1.key.word) }
        let changed = results.count { ["stored", "duplicate", "discarded"].contains($0.word) }
        return .page(
            "quarantine-trial",
            [
                "action": .string(action),
                "is_replay": .bool(action == "replay"),
                "ids": .string(ids.map(\.description).joined(separator: " ")), "entries": .integer(ids.count),
                "changed": .integer(changed), "answered_404": .bool(includesRefused),
                "is_full": .bool(ids.count == Self.most),
                "has_refused": .bool(!includesRefused && results.contains { $0.word == "answered_404" }),
                "results": .array(
                    counts.map { result, count in
                        [
                            "outcome": .string(result.word), "reason": (result.reason?.rawValue).json,
                            "count": .integer(count),
                        ]
                    }),
            ])
    }

    /// What would become of one entry.
    private struct Result: Hashable {
        let word: String
        var reason: QuarantineReason?
    }

    private func replayed(_ ids: [EventKey], _ includesRefused: Bool, _ now: Timestamp) async throws -> [Result] {
        let pool = database.pool
        let replay = QuarantineReplay(pool: pool, writer: EventWriter(pool: pool, now: { now }), now: { now })
        let page = try await replay.replay(
            QuarantineFilter(state: .all, ids: ids), options: .init(includesRefused: includesRefused, isDryRun: true))
        return page.outcomes.map { _, outcome in
            switch outcome {
            case .verdict(.stored): Result(word: "stored")
            case .verdict(.duplicate): Result(word: "duplicate")
            case .verdict(.conflict): Result(word: "conflict")
            case .verdict(.quarantined(let reason)): Result(word: "stays", reason: reason)
            case .neverARow: Result(word: "never_a_row")
            case .wasRefused: Result(word: "answered_404")
            case .unreadableFacts: Result(word: "unreadable_facts")
            case .resolvedBefore: Result(word: "resolved_before")
            }
        }
    }

    private func discarded(_ ids: [EventKey]) async throws -> [Result] {
        let open = try await database.read {
            Set(try Quarantine.list(QuarantineFilter(ids: ids), limit: ids.count, $0).map(\.id))
        }
        return ids.map { Result(word: open.contains($0) ? "discarded" : "resolved_before") }
    }
}
