package import Postgres

/// How far the line of ids is folded, and how far it is final: the row of `metering.usage_cursor`. Its ids are
/// positions on the line (``IDLine``).
package struct UsageCursor: Sendable, Hashable {
    /// Events up to this id are in the sums.
    package var events: Int64
    /// Rows without an event up to this id are in the sums.
    package var others: Int64
    /// Every id up to this one is final.
    package var settled: Int64
    /// Quarters of an hour before this one are in `usage_days`.
    package var daysBefore: Int
    /// Raw rows of quarters before this one are gone by retention.
    package var sealedBefore: Int
    /// Rows of `api_logs` without an event, of quarters before this one, were removed when the ids began again.
    package var logsSealedBefore: Int
    /// Whether `usage_spans` was kept up to here.
    package var hasSpans: Bool

    /// Up to where rows of `kind` are in the sums.
    package subscript(kind: UsageKind) -> Int64 {
        switch kind {
        case .events: events
        case .others: others
        }
    }

    /// The id up to which rows of both kinds are in the sums.
    package var folded: Int64 { min(events, others) }

    package static func read(_ connection: Connection) throws -> UsageCursor {
        guard let cursor = try read(connection, locking: "") else { throw Missing() }
        return cursor
    }

    /// Reads the cursor and holds it for the transaction, with the runs of days that belong to it; `nil` where another worker has
    /// it.
    static func take(_ connection: Connection) throws -> UsageCursor? {
        try read(connection, locking: "FOR UPDATE SKIP LOCKED").map { try UsageSpans.ensure($0, connection) }
    }

    /// Moves a column of the cursor, which the transaction holds.
    static func move(_ column: Query, to value: Int64, _ connection: Connection) throws {
        try connection.execute("UPDATE metering.usage_cursor SET \(column) = \(value)")
        try noteSpans(connection)
    }

    /// Says that the runs of days belong to the cursor as it is.
    static func noteSpans(_ connection: Connection) throws {
        try connection.execute("UPDATE metering.usage_cursor SET spans_through = \(place)")
    }

    private static let place: Query = "ARRAY[event_log_id, other_log_id, days_before]"

    /// Waits for a worker's step to end, at most 30 s, and keeps workers away for the transaction; as ``take(_:)``.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when it did not end.
    static func hold(_ connection: Connection) throws -> UsageCursor {
        try connection.executeScript("SET LOCAL lock_timeout = '30s'")
        guard let cursor = try read(connection, locking: "FOR UPDATE") else { throw Missing() }
        return try UsageSpans.ensure(cursor, connection)
    }

    /// Begins again at the first id, for other tables' rows.
    static func reset(_ connection: Connection) throws {
        try connection.execute(
            """
            UPDATE metering.usage_cursor
            SET event_log_id = 0, other_log_id = 0, settled_log_id = 0, marked_log_id = NULL, marked_transactions = NULL,
                days_before = -2147483648, sealed_before = '-infinity', logs_sealed_before = '-infinity',
                passed_at = NULL, passed_rows = NULL, pass_ms = NULL
            """)
    }

    /// The table's one row was deleted by somebody.
    package struct Missing: Error, CustomStringConvertible {
        package var description: String {
            "The row of metering.usage_cursor is gone: restore it from a backup, or run 'codexflow adopt'."
        }
    }

    private static func read(_ connection: Connection, locking: Query) throws -> UsageCursor? {
        let rows = try connection.query("SELECT \(columns) FROM metering.usage_cursor \(locking)")
        return try rows.first.map(UsageCursor.init)
    }

    /// What ``init(_:)`` reads.
    static let columns: Query = """
        event_log_id, other_log_id, settled_log_id, days_before,
        CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
        CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
        spans_through IS NOT DISTINCT FROM \(place)
        """
    /// How many these are.
    static let columnCount = 7

    /// Reads the first columns of `row`.
    init(_ row: Row) throws {
        (events, others, settled, daysBefore, sealedBefore, logsSealedBefore, hasSpans) = try row.decode(
            Int64.self, Int64.self, Int64.self, Int.self, Int.self, Int.self, Bool.self)
    }
}
