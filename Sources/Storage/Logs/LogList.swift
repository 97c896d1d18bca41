import Domain
package import Postgres

/// Pages of logs that keep their place while new rows come, by the last row of the page before.
package enum LogList {
    /// By what the rows are ordered, the largest first; the id decides between equals.
    package enum Order: String, Sendable, CaseIterable {
        case time, cost, duration

        /// The ordered expression of a row `l`, never NULL: a row without a time is the newest, as on Laravel's pages.
        fileprivate var expression: Query {
            switch self {
            case .time: "coalesce(l.created_at, 'infinity')"
            case .cost: "l.total_cost"
            case .duration: "l.response_time_ms"
            }
        }

        fileprivate var type: Query {
            switch self {
            case .time: "timestamp"
            case .cost: "numeric"
            case .duration: "integer"
            }
        }
    }

    /// The place of a row in its order.
    package struct Cursor: Sendable, Hashable {
        package let value: String
        package let id: Int64

        package init(value: String, id: Int64) {
            self.value = value
            self.id = id
        }
    }

    /// The rows that `filter` means behind `cursor`, at most `limit`, and where the next page begins; `nil` on the last.
    ///
    /// One user's rows in the order of time come from the index, however many there are. Of everybody, the order of time is the
    /// order of storing. Ordered by cost or duration, all rows that the filter means are read.
    ///
    /// - Throws: ``AppError`` `.invalid` for a cursor that is none.
    package static func read(
        _ filter: LogFilter, by order: Order, after cursor: Cursor? = nil, limit: Int, _ connection: Connection
    ) throws -> (rows: [LogRow], next: Cursor?) {
        let isByID = order == .time && filter.userID == nil
        let place: Query = isByID ? "l.id::text" : "(\(order.expression))::text"
        var condition = filter.condition
        if let cursor {
            condition = "\(condition) AND \(isByID ? "l.id < \(cursor.id)" : behind(cursor, order))"
        }
        let sorting: Query =
            isByID ? "l.id DESC" : order == .time ? LogRow.order : "\(order.expression) DESC, l.id DESC"
        do {
            let rows = try connection.query(
                """
                SELECT \(LogRow.columns), \(place) FROM public.api_logs l WHERE \(condition)
                ORDER BY \(sorting) LIMIT \(limit + 1)
                """)
            let page = try rows.prefix(limit).map(LogRow.init)
            let last = rows.count > limit ? rows[limit - 1] : nil
            return (page, try last.map { Cursor(value: try $0.decode(11), id: try $0.decode(0)) })
        } catch let error as PostgresError where error.sqlState?.hasPrefix("22") == true {
            throw AppError(.invalid, "The cursor is not one that an answer gave.")
        }
    }

    /// Rows behind the cursor; of the order of time in the form that the index understands.
    private static func behind(_ cursor: Cursor, _ order: Order) -> Query {
        guard order == .time else {
            return "(\(order.expression), l.id) < (\(cursor.value)::\(order.type), \(cursor.id))"
        }
        return cursor.value == "infinity"
            ? "(l.created_at IS NOT NULL OR l.id < \(cursor.id))"
            : "(l.created_at, l.id) < (\(cursor.value)::timestamp, \(cursor.id))"
    }
}
