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
    /// Where the ids of `api_logs` began again and no worker has noticed, that is noted first (``IDLine``). A prepared
    /// statement that no longer fits a changed table is prepared again, with all others.
    ///
    /// - Throws: ``PostgresError``, and what `body` throws.
    package static func take<T>(_ connection: Connection, _ body: (UsageSnapshot) throws -> T) throws -> T {
        do {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        } catch let error as PostgresError where error.isSafeToRetry {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        }
    }

    private static func takeOnce<T>(_ connection: Connection, _ body: (UsageSnapshot) throws -> T) throws -> T {
        try connection.transaction(.snapshot) { connection in
            // Planning a statement over every month of events takes longer than running it: plan once.
            try connection.executeScript("SET LOCAL plan_cache_mode = force_generic_plan")
            // The worker folds rows without an event within a second or two: mostly there are none to look for, which is
            // half of a report's plan. Not EXISTS, for which a planner who thinks there are many reads the table from its begin.
            let rows = try connection.query(
                """
                SELECT \(UsageCursor.columns), \(microseconds: "now()"),
                       EXISTS (SELECT FROM metering.id_ranges(other_log_id, \(Int64.max)) r
                               WHERE (SELECT max(l.id) FROM public.api_logs l WHERE l.id <= r.upper) > r.lower),
                       metering.ids_began_again() AND NOT pg_is_in_recovery()
                FROM metering.usage_cursor
                """)
            guard let row = rows.first else { throw UsageCursor.Missing() }
            // A standby shows what its primary knows.
            guard try !row.decode(UsageCursor.columnCount + 2, as: Bool.self) else { throw IDLine.BeganAgain() }
            let now = try row.decode(UsageCursor.columnCount, as: Int64.self)
            return try body(
                UsageSnapshot(
                    connection: connection, cursor: UsageCursor(row),
                    hasLogsBehind: row.decode(UsageCursor.columnCount + 1), asOf: Timestamp(microseconds: now)))
        }
    }
}
