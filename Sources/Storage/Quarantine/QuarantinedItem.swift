package import Domain
import Foundation
import Postgres

/// One quarantine entry, as an operator sees it: no prompt, no answer, no key in clear.
package struct QuarantinedItem: Sendable, Hashable {
    /// What became of an entry that is no longer open.
    package struct Resolution: Sendable, Hashable {
        /// `stored`, `duplicate` or `discarded`.
        package let outcome: String
        package let at: Timestamp
        /// The event's row in `api_logs`.
        package let logID: Int64?
    }

    /// The event's key.
    package let id: EventKey
    package let reason: QuarantineReason
    /// What is wrong, in one sentence.
    package let detail: String
    /// The facts as far as they could be read.
    package let event: UsageEvent?
    /// The first 64 KiB of a part that could not be read, scrubbed.
    package let excerpt: String?
    package let keyHashes: [KeyHash]
    /// The user whom the event names, or who holds its key.
    package let userID: Int64?
    package let receivedAt: Timestamp
    package let lastReceivedAt: Timestamp
    package let deliveries: Int64
    /// Whether it becomes a row by itself when its trouble is gone. Not where its sender was answered 404 for an event without a
    /// key of its own, and sends it again as another one.
    package let isReplayable: Bool
    package let attempts: Int
    /// When it is tried next; `nil` while it waits for a key or a user.
    package let nextAttemptAt: Timestamp?
    /// `nil` while it is open.
    package let resolution: Resolution?

    /// Whether an operator must say so before it is replayed: its sender saw a 404 and may have sent it again.
    package var wasRefused: Bool {
        !isReplayable && [.unknownKey, .unknownUser].contains(reason) && event?.isIdempotent == false
    }
}

extension QuarantinedItem {
    /// The columns that ``init(_:)`` reads, of an entry `q`.
    static let columns: Query = """
        q.id::text, q.reason, q.detail, q.event::text, q.excerpt,
        ARRAY(SELECT encode(h, 'hex') FROM unnest(q.key_hashes) h), q.user_id, \(microseconds: "q.received_at"),
        \(microseconds: "q.last_received_at"), q.deliveries, q.is_replayable, q.attempts,
        \(microseconds: "q.next_attempt_at"), q.resolution, \(microseconds: "q.resolved_at"), q.api_log_id
        """

    init(_ row: Row) throws {
        let (
            id, reason, detail, event, excerpt, hashes, user, received, lastReceived, deliveries, isReplayable,
            attempts,
            next, outcome, resolved, log
        ) = try row.decode(
            String.self, String.self, String.self, String?.self, String?.self, [String].self, Int64?.self, Int64.self,
            Int64.self, Int64.self, Bool.self, Int.self, Int64?.self, String?.self, Int64?.self, Int64?.self)
        self.id = EventKey(id) ?? EventKey(high: 0, low: 0)
        self.reason = QuarantineReason(rawValue: reason) ?? .unstorable
        self.detail = detail
        // Facts that an older version wrote and this one cannot read are no facts.
        self.event = event.flatMap { try? JSONDecoder().decode(UsageEvent.self, from: Data($0.utf8)) }
        self.excerpt = excerpt
        keyHashes = hashes.compactMap { KeyHash(hex: $0) }
        userID = user
        receivedAt = Timestamp(microseconds: received)
        lastReceivedAt = Timestamp(microseconds: lastReceived)
        self.deliveries = deliveries
        self.isReplayable = isReplayable
        self.attempts = attempts
        nextAttemptAt = next.map(Timestamp.init(microseconds:))
        resolution = outcome.map {
            Resolution(outcome: $0, at: Timestamp(microseconds: resolved ?? received), logID: log)
        }
    }
}
