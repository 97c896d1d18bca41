import Domain
import Foundation
import Storage

/// A quarantine entry as JSON: times as RFC 3339, money as a decimal string, keys as hashes.
struct QuarantineJSON: Encodable {
    /// The facts that become the row.
    struct Facts: Encodable {
        let shape, status, model: String
        let provider: String?
        let occurredAt: String
        let inputTokens, outputTokens: Int64
        /// USD; `nil` where the sender stated none.
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
        receivedAt = item.receivedAt.text
        lastReceivedAt = item.lastReceivedAt.text
        deliveries = item.deliveries
        userId = item.userID
        keyHashes = item.keyHashes.map(\.hex)
        event = item.event.map(Facts.init)
        excerpt = item.excerpt
        becomesRowByItself = item.resolution == nil && item.isReplayable
        attempts = item.attempts
        resolution = item.resolution?.outcome
        resolvedAt = item.resolution?.at.text
        logId = item.resolution?.logID
    }
}

extension QuarantineJSON.Facts {
    init(_ event: UsageEvent) {
        self.init(
            shape: event.shape.rawValue, status: event.status.rawValue, model: event.model, provider: event.provider,
            occurredAt: event.occurredAt.text, inputTokens: event.inputTokens, outputTokens: event.outputTokens,
            cost: event.cost?.money.description, durationMs: event.duration,
            laravelUserId: event.identity.laravelUserID,
            statedUserId: event.identity.userID, errorCode: event.errorCode, errorMessage: event.errorMessage,
            endUser: event.endUser, tags: event.tags, flags: event.flags.map(\.rawValue))
    }
}

/// What there is for one reason, as JSON.
struct QuarantineSummaryJSON: Encodable {
    let reason: String
    let entries: Int
    let deliveries: Int64
    let oldest, newest: String

    init(_ summary: Quarantine.Summary) {
        reason = summary.reason.rawValue
        entries = summary.entries
        deliveries = summary.deliveries
        oldest = summary.oldest.text
        newest = summary.newest.text
    }
}

extension Timestamp {
    /// RFC 3339 in UTC, with milliseconds.
    var text: String {
        let date = Date(timeIntervalSince1970: Double(microseconds) / 1_000_000)
        return date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}
