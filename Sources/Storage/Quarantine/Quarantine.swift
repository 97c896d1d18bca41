package import Domain
import Foundation
package import Postgres

/// What is put aside, as an operator sees and steers it.
package enum Quarantine {
    /// The advisory lock that replays and discards share, so that no entry is replayed while it is discarded, and none
    /// by two processes at once.
    static let lockName: Query = "hashtext('metering.quarantine')"

    /// Waits for the lock; it ends with the transaction.
    static func lock(_ connection: Connection) throws {
        try connection.execute("SELECT pg_advisory_xact_lock(\(lockName))")
    }
}

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
    /// Whether it becomes a row by itself when its trouble is gone. Not where its sender was answered 404 for an event
    /// without a key of its own, and sends it again as another one.
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

extension Quarantine {
    /// What there is for one reason.
    package struct Summary: Sendable, Hashable {
        package let reason: QuarantineReason
        package let entries: Int
        /// How often these entries were sent, repeated deliveries included.
        package let deliveries: Int64
        /// When the first and the last of them were first received.
        package let oldest: Timestamp
        package let newest: Timestamp
    }

    /// At most `limit` entries that `filter` selects, in the order in which they were received, after
    /// `cursor`.
    ///
    /// The cursor is the id of the last entry of the page before; an entry keeps its place, so that no page repeats or
    /// misses one.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is no entry `cursor`.
    package static func list(
        _ filter: QuarantineFilter, after cursor: EventKey? = nil, limit: Int = 100, _ connection: Connection
    ) throws -> [QuarantinedItem] {
        var condition = filter.condition
        if let cursor {
            let received = try connection.query(
                """
                SELECT \(microseconds: "q.received_at")
                FROM metering.quarantine q WHERE q.id = \(cursor.description)::uuid
                """
            )
            guard let received = try received.first?.decode(0, as: Int64.self) else { throw missing(cursor) }
            let moment = Timestamp(microseconds: received)
            condition = "\(condition) AND (q.received_at, q.id) > (\(moment), \(cursor.description)::uuid)"
        }
        // The planner takes the beginning of a hash for common, and would read all entries in order until it has found
        // a page.
        let source: Query =
            filter.keyHash == nil
            ? "metering.quarantine q WHERE \(condition)"
            : "(SELECT * FROM metering.quarantine q WHERE \(condition) OFFSET 0) q"
        return try connection.query(
            "SELECT \(QuarantinedItem.columns) FROM \(source) ORDER BY q.received_at, q.id LIMIT \(limit)"
        ).map(QuarantinedItem.init)
    }

    /// Everything that is kept of one entry.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is none.
    package static func require(_ id: EventKey, _ connection: Connection) throws -> QuarantinedItem {
        let items = try list(QuarantineFilter(state: .all, ids: [id]), limit: 1, connection)
        guard let item = items.first else { throw missing(id) }
        return item
    }

    /// How many entries `filter` means, by reason, the most frequent first.
    ///
    /// - Throws: ``PostgresError``.
    package static func summarize(_ filter: QuarantineFilter, _ connection: Connection) throws -> [Summary] {
        let rows = try connection.query(
            """
            SELECT q.reason, count(*), sum(q.deliveries), \(microseconds: "min(q.received_at)"),
                   \(microseconds: "max(q.received_at)")
            FROM metering.quarantine q WHERE \(filter.condition)
            GROUP BY q.reason ORDER BY count(*) DESC, q.reason
            """)
        return try rows.compactMap { row in
            let (reason, entries, deliveries, oldest, newest) = try row.decode(
                String.self, Int.self, Int64.self, Int64.self, Int64.self)
            return QuarantineReason(rawValue: reason).map {
                Summary(
                    reason: $0, entries: entries, deliveries: deliveries, oldest: Timestamp(microseconds: oldest),
                    newest: Timestamp(microseconds: newest))
            }
        }
    }

    private static func missing(_ id: EventKey) -> AppError {
        AppError(.notFound, "There is no quarantine entry \(id).")
    }
}

extension Quarantine {
    /// Counting stops here: a report says how much is missing, and more than this is a matter for `codexflow doctor`.
    package static let countedAtMost = 10_000

    /// How many events of the range are not stored yet, of one user or of all; at most ``countedAtMost``.
    ///
    /// - Throws: ``PostgresError``.
    package static func openCount(
        of user: Int64?, from: Timestamp, to: Timestamp, _ connection: Connection
    ) throws -> Int {
        let owner: Query = user.map { "q.user_id = \($0)" } ?? "true"
        let rows = try connection.query(
            """
            SELECT count(*) FROM (
                SELECT FROM metering.quarantine q
                WHERE q.resolved_at IS NULL AND \(owner) AND q.occurred_at >= \(from) AND q.occurred_at < \(to)
                LIMIT \(countedAtMost)
            ) open
            """)
        return try rows[0].decode(0)
    }
}

extension Quarantine {
    /// Entries of one transaction.
    private static let discardBatch = 10_000

    /// Resolves the open entries that `filter` means as `discarded`, and returns how many there were. They stay to be
    /// seen; if the event is sent again and can be a row by then, it is stored and its entry says so.
    ///
    /// An entry that is being replayed is either stored before, and not touched, or never. Many are discarded in
    /// several transactions, so that no delivery waits long for one of them.
    ///
    /// - Throws: ``PostgresError``.
    package static func discard(
        _ filter: QuarantineFilter, _ connection: Connection, now: Timestamp
    ) throws -> Int {
        var filter = filter
        filter.state = .open
        let condition = filter.condition
        var total = 0
        while true {
            let discarded = try connection.transaction { connection in
                try lock(connection)
                return try connection.execute(
                    """
                    WITH held AS MATERIALIZED (
                        -- In the order in which a delivery takes them, so that neither waits for the other in a ring.
                        SELECT q.id FROM metering.quarantine q
                        WHERE q.resolved_at IS NULL AND q.id = ANY(ARRAY(
                            SELECT q.id FROM metering.quarantine q WHERE \(condition) LIMIT \(discardBatch)))
                        ORDER BY q.id FOR UPDATE
                    )
                    UPDATE metering.quarantine q SET resolved_at = \(now), resolution = 'discarded'
                    WHERE q.id = ANY(ARRAY(SELECT id FROM held))
                    """)
            }
            total += discarded
            if discarded == 0 { return total }
        }
    }
}

extension QuarantineReason {
    /// One sentence for the operator.
    package var explanation: String {
        switch self {
        case .unreadable: "This is no JSON that can be read."
        case .missingIdentity: "The event names neither a key nor a user."
        case .unknownKey: "No user holds this key, or held it when the call was made."
        case .unknownUser: "No user has this id."
        case .identityConflict: "The key, laravel_user_id and user id belong to different users."
        case .denied: "The proxy refused the caller."
        case .implausibleTime: "The start is no time, older than the retention, or more than 24 hours ahead."
        case .implausibleCost: "The cost is negative, not finite, or too large."
        case .userLocked: "An open transaction holds the user's row; the event is stored when it ends."
        case .laravelUnavailable: "Laravel's tables refuse the row as they are now; it is stored when they take it."
        case .unstorable: "PostgreSQL refuses the values of this event."
        case .conflict: "Another event of this identity was stored before, with other tokens, cost or status."
        }
    }

    /// What the operator can do, where `findings` are those about Laravel's database.
    ///
    /// While rows are hidden or refused a verdict on an event may be wrong: nothing is discarded for it then.
    package func remedy(amid findings: [LaravelFinding]) -> String {
        canBecomeRow && findings.contains(where: \.makesVerdictsDoubtful) ? Self.firstTheDatabase : remedy
    }

    /// What comes before every advice to discard.
    static let firstTheDatabase =
        "Laravel's database hides or refuses rows: see the laravel findings of 'codexflow doctor' and correct "
        + "that first. Discard nothing before; what can become a row then does so by itself."

    /// What the operator can do.
    package var remedy: String {
        switch self {
        case .unreadable, .missingIdentity:
            "Find out what posts this (the webhook key, the proxy's callback), have it send the event anew, and "
                + "discard."
        case .unknownKey:
            "Nothing, if the user is about to get the key: it becomes a row within seconds. Else discard."
        case .unknownUser:
            "Nothing, if the user is about to appear: it becomes a row within seconds. Else correct custom_auth, "
                + "or discard."
        case .identityConflict:
            "Correct the key's holder in users, or what custom_auth returns; then replay, or discard."
        case .denied:
            "Nothing: a call of an unknown caller, billed to no user. Discard; if it was a customer's, look at "
                + "custom_auth."
        case .implausibleTime:
            "Correct the proxy's clock, or METERING_RETENTION_DAYS, and have the event sent anew; then discard."
        case .implausibleCost:
            "Correct the model's price in the proxy and have the event sent anew with it; then discard."
        case .userLocked:
            "Nothing: it becomes a row when the transaction ends. If it does not end, look for it in pg_stat_activity."
        case .laravelUnavailable:
            "See what 'codexflow schema' finds and correct Laravel's tables: it becomes a row within seconds."
        case .unstorable:
            "Report it: its facts could not be kept. Discard when the call was billed by hand."
        case .conflict:
            "Compare it with the stored row (show): correct api_logs by hand if this one is right; then discard."
        }
    }

    /// Whether an event put aside for this reason can become a row, by itself or by an operator's replay.
    package var canBecomeRow: Bool {
        switch self {
        case .unknownKey, .unknownUser, .userLocked, .laravelUnavailable, .identityConflict: true
        case .unreadable, .missingIdentity, .denied, .implausibleTime, .implausibleCost, .unstorable, .conflict: false
        }
    }
}
