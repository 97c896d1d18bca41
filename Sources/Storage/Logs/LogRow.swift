package import Domain
package import Postgres

/// A row of Laravel's `api_logs`.
package struct LogRow: Sendable, Hashable {
    package let id: Int64
    package let userID: Int64
    package let model: String
    package let inputTokens: Int64
    package let outputTokens: Int64
    /// The cost in USD; `nil` where the column has no price, such as NaN.
    package let cost: Money?
    /// Milliseconds from start to end.
    package let duration: Int64
    package let status: String
    package let errorMessage: String?
    package let createdAt: Timestamp?
    package let updatedAt: Timestamp?
}

extension LogRow {
    /// SQL of the cost of a row `l`, whatever type Laravel's column has; NULL for an implausible cost.
    package static let price: Query = "metering.plausible_cost(l.total_cost::numeric)"

    /// SQL of the column of a row `l` as a `bigint`, whatever type it has: 0 for NULL, and saturated at both ends.
    /// `least` and `greatest` ignore NULL, so NULL is replaced first.
    package static func whole(_ column: Query) -> Query {
        "greatest(least(coalesce(\(column), 0), 9223372036854774784), -9223372036854774784)::bigint"
    }

    /// The columns of a row `l` that ``init(_:)`` reads. A time beyond our timestamps is NULL.
    package static let columns: Query = """
        l.id, l.user_id, coalesce(l.model, 'unknown'), \(whole("l.input_tokens")), \(whole("l.output_tokens")),
        \(price), \(whole("l.response_time_ms")), coalesce(l.status, 'success'),
        l.error_message, \(microseconds: "(l.created_at AT TIME ZONE 'UTC')"),
        \(microseconds: "(l.updated_at AT TIME ZONE 'UTC')")
        """

    package init(_ row: Row) throws {
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

    /// Newest first, and rows without a time before all others, as Laravel's database sorts them. Rows of one second
    /// are ordered by id, so that no row is on two pages.
    static let order: Query = "l.created_at DESC, l.id DESC"
}
