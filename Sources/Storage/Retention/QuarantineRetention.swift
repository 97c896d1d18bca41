package import Domain
package import Postgres

/// Forgets quarantined events that were settled long ago; open ones are never forgotten.
package enum QuarantineRetention {
    private static let batch = 5_000

    /// Deletes entries that were received and resolved `days` days before `now`, and returns how many.
    ///
    /// - Throws: ``PostgresError``.
    package static func run(days: Int, now: Timestamp, _ connection: Connection) throws -> Int {
        var rows = 0
        while true {
            let deleted = try connection.execute(
                """
                DELETE FROM metering.quarantine
                WHERE id = ANY (ARRAY(
                    SELECT id FROM metering.quarantine
                    WHERE received_at < \(now) - \(days)::integer * interval '1 day'
                      AND resolved_at < \(now) - \(days)::integer * interval '1 day'
                    LIMIT \(batch)))
                """)
            rows += deleted
            if deleted < batch { return rows }
        }
    }
}
