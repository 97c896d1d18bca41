package import Domain
package import Postgres

extension Quarantine {
    /// Counting stops here: a report says how much is missing, and more than this is a matter for `codexflow doctor`.
    package static let countedAtMost = 10_000

    /// How many events of the range are (not yet) rows: of one user, or of everybody; at most ``countedAtMost``.
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
