package import Postgres

/// Rows at any number, in one snapshot and in constant memory.
package enum LogStream {
    /// Rows that are read at one time.
    private static let batch = 2_000

    /// Gives the rows that `filter` means to `body`, newest first, a batch at a time; everybody's in the order of storing. To be
    /// called in a snapshot.
    ///
    /// The statements may take as long as the reader does, at most an hour.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package static func forEachBatch(
        _ filter: LogFilter, _ connection: Connection, _ body: ([LogRow]) throws -> Void
    ) throws {
        try forEachBatch(of: LogRow.columns, filter, connection) { try body($0.map(LogRow.init)) }
    }

    /// The same as the texts of Laravel's export, which are handed on as PostgreSQL writes them.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package static func forEachBatch(
        _ filter: LogFilter, _ connection: Connection, _ body: ([LogTexts]) throws -> Void
    ) throws {
        try forEachBatch(of: LogTexts.columns, filter, connection) { try body($0.map(LogTexts.init)) }
    }

    private static func forEachBatch(
        of columns: Query, _ filter: LogFilter, _ connection: Connection, _ body: ([Row]) throws -> Void
    ) throws {
        // Between two batches the reader takes its time.
        try connection.executeScript(
            """
            SET LOCAL statement_timeout = '1h'; SET LOCAL idle_in_transaction_session_timeout = '1h';
            SET LOCAL datestyle = 'ISO'
            """)
        let order = filter.userID == nil ? "l.id DESC" : LogRow.order
        try connection.execute(
            """
            DECLARE logs NO SCROLL CURSOR FOR
            SELECT \(columns) FROM public.api_logs l WHERE \(filter.condition) ORDER BY \(order)
            """)
        while true {
            let rows = try connection.query("FETCH \(unsafeSQL: String(batch)) FROM logs")
            try body(rows)
            if rows.count < batch { return }
        }
    }
}
