package import Domain
package import Postgres

/// A row of Laravel's `api_logs`.
package struct LogRow: Sendable, Hashable {
    package let id: Int64
    package let userID: Int64
    package let model: String
    package let inputTokens: Int64
    package let outputTokens: Int64
    /// USD with 6 decimals.
    package let cost: String
    /// Milliseconds.
    package let duration: Int64
    package let status: String
    package let errorMessage: String?
    package let createdAt: Timestamp?
    package let updatedAt: Timestamp?
}

extension LogRow {
    /// The columns that ``init(_:)`` reads, of a row `l`. Times beyond what a timestamp can say are none.
    static let columns: Query = """
        l.id, l.user_id, l.model, l.input_tokens, l.output_tokens, l.total_cost::text, l.response_time_ms, l.status,
        l.error_message, \(microseconds: "(l.created_at AT TIME ZONE 'UTC')"),
        \(microseconds: "(l.updated_at AT TIME ZONE 'UTC')")
        """

    init(_ row: Row) throws {
        id = try row.decode(0)
        userID = try row.decode(1)
        model = try row.decode(2)
        inputTokens = try row.decode(3)
        outputTokens = try row.decode(4)
        cost = try row.decode(5)
        duration = try row.decode(6)
        status = try row.decode(7)
        errorMessage = try row.decode(8)
        createdAt = try row.decode(9, as: Int64?.self).map(Timestamp.init(microseconds:))
        updatedAt = try row.decode(10, as: Int64?.self).map(Timestamp.init(microseconds:))
    }

    /// The row `id`.
    ///
    /// - Throws: ``AppError`` `.notFound`.
    package static func require(_ id: Int64, _ connection: Connection) throws -> LogRow {
        let rows = try connection.query("SELECT \(columns) FROM public.api_logs l WHERE l.id = \(id)")
        guard let row = rows.first else { throw AppError(.notFound, "There is no log \(id).") }
        return try LogRow(row)
    }

    /// Newest first; rows without a time before all others, as Laravel's database sorts them; the id decides between two rows of
    /// one second, so that no row stands on two pages.
    static let order: Query = "l.created_at DESC, l.id DESC"
}
