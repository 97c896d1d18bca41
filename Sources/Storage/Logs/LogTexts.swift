import Postgres

/// A row of `api_logs` in the columns of Laravel's export, each as the text that PostgreSQL has for it.
package struct LogTexts: Sendable {
    /// `yyyy-MM-dd HH:mm:ss`, model, input and output tokens, USD with 6 decimals, milliseconds, status; a time that is
    /// none of a calendar's is NULL.
    static let columns: Query = """
        CASE WHEN l.created_at >= '0001-01-01' AND l.created_at < '9999-12-31'
             THEN date_trunc('second', l.created_at) END,
        l.model, l.input_tokens, l.output_tokens, round(coalesce(\(LogRow.price), 0), 6), l.response_time_ms, l.status
        """

    private let row: Row

    /// What a query of ``columns`` found.
    init(_ row: Row) {
        self.row = row
    }

    /// The column at `position`, as ``columns`` orders them; empty where it is NULL.
    package subscript(position: Int) -> ArraySlice<UInt8> { row.text(position) ?? [] }

    /// How many columns there are.
    package static let count = 7
    /// The columns that are numbers.
    package static let numbers = 2...5
}
