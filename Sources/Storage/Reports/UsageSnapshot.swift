package import Domain
package import Postgres

/// One state of the database, in which every number of a report, or of a page of reports, is true at the same time.
package struct UsageSnapshot {
    package let connection: Connection
    /// How far the sums are; what lies behind is read from the rows themselves.
    package let cursor: UsageCursor
    /// The moment of the state: whatever was committed before it is counted.
    package let asOf: Timestamp

    /// Gives `body` the present state.
    ///
    /// - Throws: `PostgresError`, and what `body` throws.
    package static func take<T>(_ connection: Connection, _ body: (UsageSnapshot) throws -> T) throws -> T {
        try connection.transaction(.snapshot) { connection in
            // Planning a statement over every month of events takes longer than running it: plan once.
            try connection.executeScript("SET LOCAL plan_cache_mode = force_generic_plan")
            let cursor = try UsageCursor.read(connection)
            let now = try connection.query("SELECT \(microseconds: "now()")")[0].decode(0, as: Int64.self)
            return try body(
                UsageSnapshot(connection: connection, cursor: cursor, asOf: Timestamp(microseconds: now)))
        }
    }
}
