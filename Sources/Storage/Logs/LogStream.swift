package import Postgres

/// All logs that a filter selects, however many, from one snapshot and in constant memory.
package enum LogStream {
    /// The number of rows that are read at a time.
    private static let batch = 4_000
    /// The most logs in a stretch of the logs of all users. PostgreSQL sorts a few of their columns.
    private static let longestStretch = 64_000

    /// Calls `body` with the logs that `filter` selects, newest first, a batch at a time. Call it in a snapshot.
    ///
    /// The statements may take as long as the reader does, at most an hour.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package static func forEachBatch(
        _ filter: LogFilter, _ connection: Connection, _ body: (LogEntries) throws -> Void
    ) throws {
        try forEachBatch(of: LogEntries.columns, filter, connection) { rows in
            for range in LogEntries.ranges(of: rows) { try body(try LogEntries(rows, range, connection)) }
        }
    }

    /// Calls `body` with the columns of Laravel's export, as ``LaravelLogColumns`` orders them.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package static func forEachLaravelBatch(
        _ filter: LogFilter, _ connection: Connection, _ body: (ResultTexts) throws -> Void
    ) throws {
        try forEachBatch(of: LaravelLogColumns.sql, filter, connection, body)
    }

    private static func forEachBatch(
        of columns: Query, _ filter: LogFilter, _ connection: Connection, _ body: (ResultTexts) throws -> Void
    ) throws {
        // The reader may be slow between two batches.
        try connection.executeScript(
            """
            SET LOCAL statement_timeout = '1h'; SET LOCAL idle_in_transaction_session_timeout = '1h';
            SET LOCAL datestyle = 'ISO'
            """)
        guard filter.userID == nil else {
            try fetch("SELECT \(columns) FROM public.api_logs l WHERE \(filter.condition)", connection, body)
            return
        }
        try LogSource.prepare(connection)
        // A short first stretch gives the first rows at once.
        var walk = try LogWalk.begin(filter, from: .beginning, target: batch, on: connection)
        while let stretch = try walk.stretch() {
            let rows = walk.source.rows(where: "\(filter.condition) AND \(stretch)")
            try walk.note(try fetch("SELECT \(columns) \(rows)", connection, body))
            walk.target = min(walk.target * 2, longestStretch)
        }
    }

    /// Calls `body` with the rows of `query`, newest first. Returns how many there were.
    @discardableResult
    private static func fetch(
        _ query: Query, _ connection: Connection, _ body: (ResultTexts) throws -> Void
    ) throws -> Int {
        try connection.execute("DECLARE logs NO SCROLL CURSOR FOR \(query) ORDER BY \(LogRow.order)")
        var count = 0
        while true {
            let rows = try connection.texts("FETCH \(unsafeSQL: String(batch)) FROM logs")
            if rows.count > 0 { try body(rows) }
            count += rows.count
            if rows.count < batch { break }
        }
        try connection.executeScript("CLOSE logs")
        return count
    }
}

/// The columns of Laravel's `usage_export.csv`, of a row `l` of `api_logs`.
package enum LaravelLogColumns {
    /// `yyyy-MM-dd HH:mm:ss`, model, input tokens, output tokens, USD with 6 decimals, milliseconds, status. A time
    /// outside of the years 1 to 9999 is NULL.
    static let sql: Query = """
        CASE WHEN l.created_at >= '0001-01-01' AND l.created_at < '9999-12-31'
             THEN date_trunc('second', l.created_at) END,
        l.model, l.input_tokens, l.output_tokens, round(coalesce(\(LogRow.price), 0), 6), l.response_time_ms, l.status
        """

    /// How many columns there are.
    package static let count = 7
    /// The positions of the columns that are numbers, from 0.
    package static let numbers = 2...5
}
