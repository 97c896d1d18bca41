package import Domain
package import Postgres
import Storage

/// One state of the database, in which every number of a report, or of a page of reports, is true at the same time.
package struct ReportSnapshot {
    package let connection: Connection
    /// Which logs are in the rollups.
    let state: ReportState
    /// The moment of the state. What was committed before it is counted.
    package let asOf: Timestamp

    /// Calls `body` with the present state.
    ///
    /// If the ids of `api_logs` began again and no worker has noticed, a new epoch begins first (``IDLine``). If a
    /// prepared statement no longer fits a changed table, all statements are prepared again.
    ///
    /// - Throws: ``RollupState/Missing``, ``PostgresError``, and what `body` throws.
    package static func take<T>(_ connection: Connection, _ body: (ReportSnapshot) throws -> T) throws -> T {
        do {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        } catch let error as PostgresError where error.isSafeToRetry {
            return try IDLine.retrying(connection) { try takeOnce($0, body) }
        }
    }

    private static func takeOnce<T>(_ connection: Connection, _ body: (ReportSnapshot) throws -> T) throws -> T {
        try connection.transaction(.snapshot) { connection in
            // Planning a statement over every month of events takes longer than running it: plan once.
            try connection.executeScript("SET LOCAL plan_cache_mode = force_generic_plan")
            guard let row = try connection.query(statement).first else { throw RollupState.Missing() }
            let (now, hasPendingLaravelLogs, haveIDsBegunAgain) = try (
                row.decode(RollupState.columnCount, as: Int64.self),
                row.decode(RollupState.columnCount + 1, as: Bool.self),
                row.decode(RollupState.columnCount + 2, as: Bool.self)
            )
            guard !haveIDsBegunAgain else { throw IDLine.BeganAgain() }
            let state = ReportState(rollups: try RollupState(row), hasPendingLaravelLogs: hasPendingLaravelLogs)
            return try body(
                ReportSnapshot(connection: connection, state: state, asOf: Timestamp(microseconds: now)))
        }
    }

    /// Reads the watermarks, the time, whether there are pending logs without an event, and whether ids began again.
    static var statement: Query {
        """
        SELECT \(RollupState.columns), \(microseconds: "now()"),
               -- Mostly there are none: the worker rolls them up within a second or two. Without them a report needs
               -- half of its plan. Not EXISTS: the planner would expect many, and read the table from its begin.
               EXISTS (SELECT FROM metering.id_ranges(other_log_id, \(Int64.max)) r
                       WHERE (SELECT max(l.id) FROM public.api_logs l WHERE l.id <= r.upper) > r.lower),
               -- A standby shows what its primary knows.
               metering.ids_began_again() AND NOT pg_is_in_recovery()
        FROM metering.rollup_watermark
        """
    }
}

/// What the text of a report's statement depends on, besides the report's parameters.
struct ReportState {
    /// The watermarks and the day boundary.
    var rollups: RollupState
    /// Whether `api_logs` has pending logs without an event.
    var hasPendingLaravelLogs: Bool
}
