package import Postgres

/// Rows at any number, in one snapshot and in constant memory.
package enum LogStream {
    /// Rows that are read at one time.
    private static let batch = 2_000
    /// Logs of a stretch of all users' at most, of which PostgreSQL sorts a few columns at a time.
    private static let longest = 64_000

    /// Gives the rows that `filter` means to `body`, newest first, a batch at a time. To be called in a snapshot.
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
        guard filter.userID == nil else {
            try fetch("SELECT \(columns) FROM public.api_logs l WHERE \(filter.condition)", connection, body)
            return
        }
        try LogSource.prepare(connection)
        // The first rows should come at once.
        var walk = try LogWalk(filter, from: .beginning, target: batch, connection)
        while let stretch = try walk.stretch() {
            let rows = walk.source.rows(where: "\(filter.condition) AND \(stretch)")
            try walk.note(try fetch("SELECT \(columns) \(rows)", connection, body))
            walk.target = min(walk.target * 2, longest)
        }
    }

    /// Gives the rows of `query` to `body`, newest first; how many there were.
    @discardableResult
    private static func fetch(_ query: Query, _ connection: Connection, _ body: ([Row]) throws -> Void) throws -> Int {
        try connection.execute("DECLARE logs NO SCROLL CURSOR FOR \(query) ORDER BY \(LogRow.order)")
        var count = 0
        while true {
            let rows = try connection.query("FETCH \(unsafeSQL: String(batch)) FROM logs")
            if !rows.isEmpty { try body(rows) }
            count += rows.count
            if rows.count < batch { break }
        }
        try connection.executeScript("CLOSE logs")
        return count
    }
}
