package import Domain
package import Postgres

/// One state of the database, in which every number of a report, or of a page of reports, is true at the same time.
package struct UsageSnapshot {
    package let connection: Connection
    /// How far the sums are; what lies behind is read from the rows themselves.
    package let cursor: UsageCursor
    /// Whether `api_logs` has rows behind the cursor of those without an event.
    let hasLogsBehind: Bool
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
            // The worker folds rows without an event within a second or two: mostly there are none to look for, which is
            // half of a report's plan. Not EXISTS, for which a planner who thinks there are many reads the table from its begin.
            let (now, hasLogs) = try connection.query(
                "SELECT \(microseconds: "now()"), coalesce(max(id) > \(cursor.others), false) FROM public.api_logs"
            )[0].decode(Int64.self, Bool.self)
            return try body(
                UsageSnapshot(
                    connection: connection, cursor: cursor, hasLogsBehind: hasLogs, asOf: Timestamp(microseconds: now)))
        }
    }
}
