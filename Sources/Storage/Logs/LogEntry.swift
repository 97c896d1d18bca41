package import Domain
package import Postgres

/// A row of `api_logs` with the exact facts that we keep of its event.
package struct LogEntry: Sendable, Hashable {
    /// What `metering.events` says; Laravel's own rows, and history older than us, have none of it.
    package struct Facts: Sendable, Hashable {
        /// The event's key.
        package let key: String
        package let provider: String?
        /// The deployment that served the call.
        package let deployment: String?
        package let callType: String?
        package let inputTokens: Int64
        package let outputTokens: Int64
        package let cachedTokens: Int64
        package let reasoningTokens: Int64
        /// USD; `nil` where nobody knows the price.
        package let cost: Money?
        /// Milliseconds.
        package let duration: Int64?
        package let timeToFirstToken: Int64?
        package let isStream: Bool
        package let isCacheHit: Bool
        package let errorCode: String?
        /// The client's own word for its user.
        package let endUser: String?
        package let tags: [String]
        package let flags: [String]
        /// The user's plan when the event was stored.
        package let plan: String
        package let occurredAt: Timestamp
    }

    package let row: LogRow
    package let facts: Facts?

    /// What is special about the call: its event's flags, and those of values that another writer wrote.
    package var flags: [String] {
        let flags = facts?.flags ?? []
        return flags + row.flags.map(\.rawValue).filter { !flags.contains($0) }
    }
}

extension LogEntry {
    /// `rows` with their facts, in the same order.
    package static func of(_ rows: [LogRow], _ connection: Connection) throws -> [LogEntry] {
        guard !rows.isEmpty else { return [] }
        let facts = try connection.query(
            """
            SELECT l.id, e.event_key::text, e.provider, e.model, e.call_type, e.input_tokens, e.output_tokens,
                   e.cached_tokens, e.reasoning_tokens, e.cost, e.duration_ms, e.first_token_ms, e.is_stream,
                   e.is_cache_hit, e.error_code, e.end_user, coalesce(e.tags, '{}'), coalesce(e.flags, '{}'), e.plan,
                   \(microseconds: "e.occurred_at")
            FROM metering.events e
            JOIN (
                SELECT w.id, w.user_id, 'epoch'::timestamp + w.created_us * interval '1 microsecond' AS created_at,
                       w.model, w.input_tokens, w.output_tokens, w.status
                FROM unnest(\(rows.map(\.id))::bigint[], \(rows.map(\.userID))::bigint[],
                            \(rows.map(\.createdAt?.microseconds))::bigint[], \(rows.map(\.model))::text[],
                            \(rows.map(\.inputTokens))::bigint[], \(rows.map(\.outputTokens))::bigint[],
                            \(rows.map(\.status))::text[]
                ) AS w (id, user_id, created_us, model, input_tokens, output_tokens, status)
            ) l ON \(IDLine.isRowOfEvent)
            WHERE \(keys(of: rows))
            """)
        let found = Dictionary(
            try facts.map { (try $0.decode(0, as: Int64.self), try Facts($0)) }, uniquingKeysWith: { first, _ in first }
        )
        return rows.map { LogEntry(row: $0, facts: found[$0.id]) }
    }

    /// The keys under which the facts of `rows` can lie, so that only their months are looked at: a key begins with its
    /// event's time, of which a row's second was cut, or the arrival at most 24 hours before it; or it was given by the
    /// sender.
    private static func keys(of rows: [LogRow]) -> Query {
        let times = rows.compactMap(\.createdAt)
        guard times.count == rows.count, let first = times.min(), let last = times.max() else { return "true" }
        let (low, high) = (EventKey.first(at: first), EventKey.first(at: last.advanced(by: .seconds(90_000))))
        return """
            ((e.event_key >= \(low.description)::uuid AND e.event_key < \(high.description)::uuid)
             OR e.event_key >= \(EventKey.firstNamed.description)::uuid)
            """
    }
}

extension LogEntry.Facts {
    fileprivate init(_ row: Row) throws {
        key = try row.decode(1)
        provider = try row.decode(2)
        deployment = try row.decode(3)
        callType = try row.decode(4)
        inputTokens = try row.decode(5)
        outputTokens = try row.decode(6)
        cachedTokens = try row.decode(7)
        reasoningTokens = try row.decode(8)
        cost = try row.decode(9)
        duration = try row.decode(10)
        timeToFirstToken = try row.decode(11)
        isStream = try row.decode(12)
        isCacheHit = try row.decode(13)
        errorCode = try row.decode(14)
        endUser = try row.decode(15)
        tags = try row.decode(16)
        flags = try row.decode(17)
        plan = try row.decode(18)
        occurredAt = Timestamp(microseconds: try row.decode(19))
    }
}
