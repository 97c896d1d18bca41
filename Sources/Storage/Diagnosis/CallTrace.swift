package import Domain
package import Postgres

/// Follows one call that its caller has marked.
package enum CallTrace {
    /// The user of the log of the call with this `end_user` that began since `began`; `nil` while there is none. Reads
    /// the events since then by their keys.
    ///
    /// - Throws: ``PostgresError``.
    package static func user(
        ofEndUser mark: String, since began: Timestamp, _ connection: Connection
    ) throws -> Int64? {
        // The clocks of two machines differ.
        let floor = EventKey(high: UInt64(max(began.advanced(by: .seconds(-300)).milliseconds, 0)) << 16, low: 0)
        let rows = try connection.query(
            """
            SELECT e.user_id FROM metering.events e
            WHERE e.event_key >= \(floor.description)::uuid AND e.end_user = \(mark) LIMIT 1
            """)
        return try rows.first?.decode(0)
    }
}
