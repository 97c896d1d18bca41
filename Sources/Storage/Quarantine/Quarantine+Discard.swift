package import Domain
package import Postgres

extension Quarantine {
    /// Entries of one transaction.
    private static let discardBatch = 10_000

    /// Resolves the open entries that `filter` means as `discarded`, and returns how many there were. They stay to be seen; if
    /// the event is sent again and can be a row by then, it is stored and its entry says so.
    ///
    /// An entry that is being replayed is either stored before, and not touched, or never. Many are discarded in several
    /// transactions, so that no delivery waits long for one of them.
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
