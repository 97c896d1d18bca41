import Bootstrap
import Domain
import Foundation
import Storage

/// Prints quarantine entries.
enum QuarantineText {
    static func print(_ items: [QuarantinedItem], asJSON: Bool) {
        guard !asJSON else { return items.forEach { Terminal.print(json: json(QuarantineJSON($0))) } }
        table(
            ["id", "received", "reason", "user", "key", "model", "sent", "resolution"],
            items.map { item in
                [
                    item.id.description, item.receivedAt.rfc3339, item.reason.rawValue,
                    item.userID.map(String.init) ?? "-",
                    item.keyHashes.first.map { "\($0.hex.prefix(8))…" } ?? "-", item.event?.modelGroup ?? "-",
                    "\(item.deliveries)×", item.resolution?.outcome ?? "open",
                ]
            })
    }

    static func print(_ summaries: [Quarantine.Summary], asJSON: Bool) {
        guard !asJSON else { return summaries.forEach { Terminal.print(json: json(QuarantineSummaryJSON($0))) } }
        table(
            ["reason", "entries", "deliveries", "oldest", "newest"],
            summaries.map {
                [$0.reason.rawValue, "\($0.entries)", "\($0.deliveries)", $0.oldest.rfc3339, $0.newest.rfc3339]
            })
    }

    /// One entry, one property on each line. `findings` are those about Laravel's database.
    static func description(of item: QuarantinedItem, amid findings: [LaravelFinding]) -> [String] {
        let event = item.event
        let properties: [(String, String?)] = [
            ("id", item.id.description), ("reason", item.reason.rawValue), ("meaning", item.detail),
            ("what to do", item.resolution == nil ? item.reason.remedy(amid: findings) : nil),
            ("state", state(of: item)),
            ("received", "\(item.receivedAt.rfc3339), last \(item.lastReceivedAt.rfc3339), \(item.deliveries)×"),
            ("occurred", event?.occurredAt.rfc3339), ("user", item.userID.map(String.init)),
            ("key hashes", item.keyHashes.isEmpty ? nil : item.keyHashes.map(\.hex).joined(separator: " ")),
            ("stated ids", statedIDs(event?.identity)), ("shape", event?.shape.rawValue),
            ("status", event?.status.rawValue), ("model", event?.modelGroup), ("provider", event?.provider),
            ("tokens", event.map { "\($0.inputTokens) in, \($0.outputTokens) out" }),
            ("cost", event.map { $0.cost.map { "\($0.money) USD" } ?? "none stated" }),
            ("duration", event?.durationMilliseconds.map { "\($0) ms" }), ("end user", event?.endUser),
            ("error", [event?.errorCode, event?.errorMessage].compactMap(\.self).joined(separator: " ")),
            ("flags", event?.flags.map(\.rawValue).joined(separator: ", ")), ("excerpt", item.excerpt),
        ]
        return properties.compactMap { name, value in
            value.flatMap { $0.isEmpty ? nil : "\(name.padded(to: 12))\($0)" }
        }
    }

    /// One line of JSON.
    static func json(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }

    /// Writes a line for the operator to standard error.
    static func note(_ text: String) {
        Terminal.complain(text)
    }

    private static func state(of item: QuarantinedItem) -> String {
        if let resolution = item.resolution {
            let row = resolution.logID.map { ", api_logs \($0)" } ?? ""
            return "\(resolution.outcome) at \(resolution.at.rfc3339)\(row)"
        }
        if item.wasRefused {
            return "open; answered 404 and without an idempotency key: becomes a log by --answered-404"
        }
        guard item.isReplayable else { return "open; never becomes a log by itself" }
        let next = item.nextAttemptAt.map { "next attempt at \($0.rfc3339)" } ?? "waits"
        return "open; \(next), \(item.attempts) attempts so far"
    }

    private static func statedIDs(_ identity: IdentityClaim?) -> String? {
        let ids = [("laravel_user_id", identity?.laravelUserID), ("user id", identity?.userID)]
        return ids.compactMap { name, id in id.map { "\(name) \($0)" } }.joined(separator: ", ")
    }

    /// Aligned columns, two spaces between them, under their names.
    static func table(_ names: [String], _ rows: [[String]]) {
        let rows = [names] + rows.map { $0.map(\.visible) }
        let widths = names.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let cells = zip(row.dropLast(), widths).map { $0.padded(to: $1 + 2) } + row.suffix(1)
            Terminal.print(cells.joined())
        }
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
}

/// A quarantine entry as JSON: times as RFC 3339, money as a decimal string, keys as hashes.
struct QuarantineJSON: Encodable {
    /// The facts of the event.
    struct Facts: Encodable {
        let shape, status, model: String
        let provider: String?
        let occurredAt: String
        let inputTokens, outputTokens: Int64
        /// The cost in USD; `nil` if the sender stated none.
        let cost: String?
        let durationMs: Int64?
        let laravelUserId, statedUserId: Int64?
        let errorCode, errorMessage, endUser: String?
        let tags, flags: [String]
    }

    let id, reason, detail, remedy: String
    let receivedAt, lastReceivedAt: String
    let deliveries: Int64
    let userId: Int64?
    let keyHashes: [String]
    let event: Facts?
    let excerpt: String?
    let becomesRowByItself: Bool
    let attempts: Int
    let resolution: String?
    let resolvedAt: String?
    let logId: Int64?

    init(_ item: QuarantinedItem) {
        id = item.id.description
        reason = item.reason.rawValue
        detail = item.detail
        remedy = item.reason.remedy
        receivedAt = item.receivedAt.rfc3339
        lastReceivedAt = item.lastReceivedAt.rfc3339
        deliveries = item.deliveries
        userId = item.userID
        keyHashes = item.keyHashes.map(\.hex)
        event = item.event.map(Facts.init)
        excerpt = item.excerpt
        becomesRowByItself = item.resolution == nil && item.isReplayable
        attempts = item.attempts
        resolution = item.resolution?.outcome
        resolvedAt = item.resolution?.at.rfc3339
        logId = item.resolution?.logID
    }
}

extension QuarantineJSON.Facts {
    init(_ event: UsageEvent) {
        self.init(
            shape: event.shape.rawValue, status: event.status.rawValue, model: event.modelGroup,
            provider: event.provider,
            occurredAt: event.occurredAt.rfc3339, inputTokens: event.inputTokens, outputTokens: event.outputTokens,
            cost: event.cost?.money.description, durationMs: event.durationMilliseconds,
            laravelUserId: event.identity.laravelUserID,
            statedUserId: event.identity.userID, errorCode: event.errorCode, errorMessage: event.errorMessage,
            endUser: event.endUser, tags: event.tags, flags: event.flags.map(\.rawValue))
    }
}

/// The entries of one reason, as JSON.
struct QuarantineSummaryJSON: Encodable {
    let reason: String
    let entries: Int
    let deliveries: Int64
    let oldest, newest: String

    init(_ summary: Quarantine.Summary) {
        reason = summary.reason.rawValue
        entries = summary.entries
        deliveries = summary.deliveries
        oldest = summary.oldest.rfc3339
        newest = summary.newest.rfc3339
    }
}
