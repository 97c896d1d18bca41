package import Domain
import Foundation
package import Postgres

/// Lists, counts and discards quarantined events.
package enum Quarantine {
    /// The advisory lock of replays and discards. So no entry is replayed while it is discarded, or by two processes at
    /// once.
    static let lockName: Query = "hashtext('metering.quarantine')"

    /// Waits for the lock, which ends with the transaction.
    static func lock(_ connection: Connection) throws {
        try connection.execute("SELECT pg_advisory_xact_lock(\(lockName))")
    }
}

/// A quarantine entry for an operator. It has no prompt, no answer and no key in clear text.
package struct QuarantinedItem: Sendable, Hashable {
    /// How an entry was resolved.
    package struct Resolution: Sendable, Hashable {
        /// `stored`, `duplicate` or `discarded`.
        package let outcome: String
        /// The time at which it was resolved.
        package let at: Timestamp
        /// The event's row in `api_logs`.
        package let logID: Int64?
    }

    /// The event's key.
    package let id: EventKey
    /// Why the event is not a log.
    package let reason: QuarantineReason
    /// One sentence that explains it.
    package let detail: String
    /// The event, as far as it could be read.
    package let event: UsageEvent?
    /// The first 64 KiB of an unreadable part, without secrets.
    package let excerpt: String?
    /// The hashes of the keys that the event states.
    package let keyHashes: [KeyHash]
    /// The user whom the event names, or who holds its key.
    package let userID: Int64?
    /// The time of the first delivery.
    package let receivedAt: Timestamp
    /// The time of the last delivery.
    package let lastReceivedAt: Timestamp
    /// How often it was delivered.
    package let deliveries: Int64
    /// Whether it is stored by itself once the reason is gone. It is not if its sender was answered 404 for an event
    /// without an idempotency key, because the sender sends it again as another event.
    package let isReplayable: Bool
    /// How often a replay has tried it.
    package let attempts: Int
    /// The time of the next attempt; `nil` while it waits for a key or a user.
    package let nextAttemptAt: Timestamp?
    /// `nil` while it is open.
    package let resolution: Resolution?

    /// Whether an operator must confirm its replay, because its sender was answered 404 and may have sent it again.
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
        // An event that an older version wrote and this one cannot read counts as none.
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

/// Conditions on quarantine entries. An entry must meet all of them. An empty filter selects every open entry.
package struct QuarantineFilter: Sendable, Hashable {
    /// Whether an entry is still open.
    package enum State: String, Sendable, CaseIterable {
        /// It is not a log, or not yet.
        case open
        /// It was stored, found to be a duplicate, or discarded.
        case resolved
        case all
    }

    /// The state.
    package var state: State
    /// Exactly these entries; `nil` for all.
    package var ids: [EventKey]?
    /// One of these reasons; empty for all.
    package var reasons: Set<QuarantineReason>
    /// The user whom the event names, or who holds its key.
    package var userID: Int64?
    /// The first hexadecimal digits of the hash of the event's key.
    package var keyHash: HexPrefix?
    /// The model that the client asked for.
    package var model: String?
    /// The first moment at which it was first received.
    package var from: Timestamp?
    /// The end of that range, not included.
    package var to: Timestamp?

    /// A filter with these conditions.
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

    /// Whether it has a condition besides the state.
    package var isNarrow: Bool { self != QuarantineFilter(state: state) }

    /// The condition on an entry `q`. It names only columns that are filtered, so that each combination finds its
    /// index.
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

    /// The prefix `text`; `nil` if it is not 1 to 64 hexadecimal digits.
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
    /// The number and age of the entries of one reason.
    package struct Summary: Sendable, Hashable {
        /// The reason.
        package let reason: QuarantineReason
        /// The number of entries.
        package let entries: Int
        /// The number of deliveries of these entries.
        package let deliveries: Int64
        /// The first delivery of the oldest entry.
        package let oldest: Timestamp
        /// The first delivery of the newest entry.
        package let newest: Timestamp
    }

    /// At most `limit` entries that `filter` selects, in the order of their first delivery, after `cursor`.
    ///
    /// The cursor is the id of the last entry of the page before. The order of entries never changes, so no page
    /// repeats or misses one.
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
        // The planner expects many entries with this prefix, and would read all entries in order until it has found a
        // page.
        let source: Query =
            filter.keyHash == nil
            ? "metering.quarantine q WHERE \(condition)"
            : "(SELECT * FROM metering.quarantine q WHERE \(condition) OFFSET 0) q"
        return try connection.query(
            "SELECT \(QuarantinedItem.columns) FROM \(source) ORDER BY q.received_at, q.id LIMIT \(limit)"
        ).map(QuarantinedItem.init)
    }

    /// The entry `id`.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is none.
    package static func require(_ id: EventKey, _ connection: Connection) throws -> QuarantinedItem {
        let items = try list(QuarantineFilter(state: .all, ids: [id]), limit: 1, connection)
        guard let item = items.first else { throw missing(id) }
        return item
    }

    /// The entries that `filter` selects, counted by reason, the most frequent first.
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
    /// Counting stops here. A report shows the number as "at least"; `codexflow doctor` warns of a large quarantine.
    package static let countedAtMost = 10_000

    /// The number of open events in the range, of one user or of all users; at most ``countedAtMost``.
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

    /// Resolves the open entries that `filter` selects as `discarded`, and returns their number. They stay visible. If
    /// such an event is sent again and can be stored by then, it is stored, and its entry becomes `stored`.
    ///
    /// An entry is never replayed and discarded at once. Many entries are discarded in several transactions, so that no
    /// delivery waits long for one of them.
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
                        -- In the order in which a delivery locks them, so that no deadlock is possible.
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
    /// One sentence for the operator about the reason.
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

    /// What the operator should do. `findings` are those about Laravel's database.
    ///
    /// While rows are hidden or refused, the reason may be wrong. Then the advice is never to discard.
    package func remedy(amid findings: [LaravelFinding]) -> String {
        canBecomeRow && findings.contains(where: \.makesVerdictsDoubtful) ? Self.firstTheDatabase : remedy
    }

    /// The sentence before every advice to discard.
    static let firstTheDatabase =
        "Laravel's database hides or refuses rows: see the laravel findings of 'codexflow doctor' and correct "
        + "that first. Discard nothing before; what can become a row then does so by itself."

    /// What the operator should do.
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

    /// Whether an event with this reason can become a log, by itself or by an operator's replay.
    package var canBecomeRow: Bool {
        switch self {
        case .unknownKey, .unknownUser, .userLocked, .laravelUnavailable, .identityConflict: true
        case .unreadable, .missingIdentity, .denied, .implausibleTime, .implausibleCost, .unstorable, .conflict: false
        }
    }
}
