package import Domain
package import Postgres

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

    /// The entries that `filter` means, in the order in which they were received, at most `limit` of those behind `cursor`.
    ///
    /// The cursor is the id of the last entry of the page before; an entry keeps its place, so that no page repeats or misses
    /// one.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is no entry `cursor`.
    package static func list(
        _ filter: QuarantineFilter, after cursor: EventKey? = nil, limit: Int = 100, _ connection: Connection
    ) throws -> [QuarantinedItem] {
        var condition = filter.condition
        if let cursor {
            let received = try connection.query(
                "SELECT \(microseconds: "q.received_at") FROM metering.quarantine q WHERE q.id = \(cursor.description)::uuid"
            )
            guard let received = try received.first?.decode(0, as: Int64.self) else { throw missing(cursor) }
            let moment = Timestamp(microseconds: received)
            condition = "\(condition) AND (q.received_at, q.id) > (\(moment), \(cursor.description)::uuid)"
        }
        // The planner takes the beginning of a hash for common, and would read all entries in order until it has found a page.
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
