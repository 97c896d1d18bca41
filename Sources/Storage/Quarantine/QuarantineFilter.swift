package import Domain
import Postgres

/// Which quarantine entries are meant; each condition narrows, and an empty filter means every open entry.
package struct QuarantineFilter: Sendable, Hashable {
    package enum State: String, Sendable, CaseIterable {
        /// Not (yet) a row.
        case open
        /// Stored, a duplicate after all, or discarded.
        case resolved
        case all
    }

    package var state: State
    /// Exactly these, whatever their number; `nil` means any.
    package var ids: [EventKey]?
    /// One of these reasons; none means any.
    package var reasons: Set<QuarantineReason>
    /// The user whom the event names, or who holds its key.
    package var userID: Int64?
    /// The first bytes of the hash of the event's key, and half of the next one where the digits are odd in number.
    package var keyHash: HexPrefix?
    /// The name the client asked for.
    package var model: String?
    /// When it was first received: `[from, to)`.
    package var from: Timestamp?
    package var to: Timestamp?

    package init(
        state: State = .open, ids: [EventKey]? = nil, reasons: Set<QuarantineReason> = [], userID: Int64? = nil,
        keyHash: HexPrefix? = nil, model: String? = nil, from: Timestamp? = nil, to: Timestamp? = nil
    ) {
        self.state = state
        self.ids = ids
        self.reasons = reasons
        self.userID = userID
        self.keyHash = keyHash
        self.model = model
        self.from = from
        self.to = to
    }

    /// Whether it says anything but the state.
    package var isNarrow: Bool { self != QuarantineFilter(state: state) }

    /// The condition on an entry `q`: only what is asked for, so that each combination finds its index.
    var condition: Query {
        let reasons = reasons.map(\.rawValue).sorted()
        let conditions: [Query?] = [
            state == .open ? "q.resolved_at IS NULL" : state == .resolved ? "q.resolved_at IS NOT NULL" : nil,
            ids.map { "q.id = ANY(\($0.map(\.description))::uuid[])" },
            reasons.count == 1 ? "q.reason = \(reasons[0])" : nil,
            reasons.count > 1 ? "q.reason = ANY(\(reasons)::text[])" : nil,
            userID.map { "q.user_id = \($0)" },
            keyHash.map { "q.key_hashes[1] >= \($0.lowest)::bytea AND q.key_hashes[1] <= \($0.highest)::bytea" },
            model.map { "q.event->>'model' = \($0)" },
            from.map { "q.received_at >= \($0)" },
            to.map { "q.received_at < \($0)" },
        ]
        return conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
    }
}

/// The beginning of a SHA-256, in hexadecimal digits.
package struct HexPrefix: Sendable, Hashable {
    let lowest: [UInt8]
    let highest: [UInt8]

    /// `nil` where `text` is anything but 1 to 64 hexadecimal digits.
    package init?(_ text: String) {
        let digits = text.lowercased()
        guard (1...64).contains(digits.utf8.count),
            let lowest = [UInt8](lowercaseHex: digits + String(repeating: "0", count: 64 - digits.utf8.count)),
            let highest = [UInt8](lowercaseHex: digits + String(repeating: "f", count: 64 - digits.utf8.count))
        else { return nil }
        self.lowest = lowest
        self.highest = highest
    }
}
