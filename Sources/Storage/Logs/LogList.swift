import Domain
package import Postgres

/// Pages of logs. A page begins after the last row of the page before, so new rows shift nothing.
package enum LogList {
    /// The order of rows, largest value first. Rows with equal values are ordered by id.
    package enum Order: String, Sendable, CaseIterable {
        case time, cost, duration
    }

    /// The position of a row in its order.
    package struct Cursor: Sendable, Hashable {
        package let value: String
        package let id: Int64

        package init(value: String, id: Int64) {
            self.value = value
            self.id = id
        }
    }

    /// The value of a row without a time, in the order of time.
    private static let timeless = "none"
    /// The least number of logs that a stretch of the logs of all users should have.
    package static let stretch = 500

    /// The ids of the rows that `filter` means after `cursor`, at most `limit`, and where the next page begins; `nil`
    /// on the last.
    ///
    /// In the order of time, the rows of one user come from the index, however many there are. Those of all users come
    /// from an index on the time, or else from a walk. In the order of cost or duration, all rows of the range are
    /// read. Call it in a snapshot.
    ///
    /// - Throws: ``AppError`` `.invalid` for an invalid cursor.
    package static func read(
        _ filter: LogFilter, by order: Order, after cursor: Cursor? = nil, limit: Int, stretch: Int = stretch,
        _ connection: Connection
    ) throws -> (ids: [Int64], next: Cursor?) {
        do {
            let rows = try rows(filter, order, cursor, limit + 1, stretch, connection)
            let last = rows.count > limit ? rows[limit - 1] : nil
            return (
                try rows.prefix(limit).map { try $0.decode(0) },
                try last.map { Cursor(value: try $0.decode(1), id: try $0.decode(0)) }
            )
        } catch let error as PostgresError where cursor != nil && error.sqlState?.hasPrefix("22") == true {
            throw AppError(.invalid, "The cursor is not one that an answer gave.", cause: .invalidCursor)
        }
    }

    private static func rows(
        _ filter: LogFilter, _ order: Order, _ cursor: Cursor?, _ count: Int, _ stretch: Int, _ connection: Connection
    ) throws -> [Row] {
        var condition = filter.condition
        if let cursor { condition = "\(condition) AND \(after(cursor, order))" }
        let sorted: Query = "ORDER BY \(order.sorting) LIMIT"
        let columns: Query = "SELECT l.id, \(order.place)"
        guard filter.userID == nil else {
            return try connection.query("\(columns) FROM public.api_logs l WHERE \(condition) \(sorted) \(count)")
        }
        try LogSource.prepare(connection)
        guard order == .time else {
            let source = try LogSource.find(filter, connection)
            return try connection.query("\(columns) \(source.rows(where: condition)) \(sorted) \(count)")
        }
        var walk = try LogWalk.begin(
            filter, from: try start(cursor, connection), target: max(count, stretch), on: connection)
        var rows: [Row] = []
        while rows.count < count, let stretch = try walk.stretch() {
            let found = try connection.query(
                """
                \(columns) \(walk.source.rows(where: "\(condition) AND \(stretch)"))
                \(sorted) \(count - rows.count)
                """)
            rows += found
            try walk.note(found.count)
        }
        return rows
    }

    /// Where a walk goes on after `cursor`.
    private static func start(_ cursor: Cursor?, _ connection: Connection) throws -> LogWalk.Start {
        guard let cursor, cursor.value != timeless else { return .beginning }
        let row = try connection.query(
            """
            SELECT t.time = 'infinity', CASE WHEN isfinite(t.time) THEN \(LogCut.seconds(of: "t.time")) END
            FROM (SELECT \(cursor.value)::timestamp AS time) t
            """)[0]
        let (isLatest, seconds) = try row.decode(Bool.self, Int64?.self)
        return isLatest ? .latest : seconds.map { .before(LogCut(seconds: $0).next) } ?? .last
    }

    /// The condition on rows after the cursor. In the order of time it has a form that an index can use.
    private static func after(_ cursor: Cursor, _ order: Order) -> Query {
        switch order {
        case .time where cursor.value == timeless: "(l.created_at IS NOT NULL OR l.id < \(cursor.id))"
        case .time: "(l.created_at, l.id) < (\(cursor.value)::timestamp, \(cursor.id))"
        case .cost: "(\(order.expression), l.id) < (\(cursor.value)::numeric, \(cursor.id))"
        case .duration: "(\(order.expression), l.id) < (\(cursor.value)::bigint, \(cursor.id))"
        }
    }
}

extension LogList.Order {
    /// The ordered expression of a row `l`.
    fileprivate var expression: Query {
        switch self {
        case .time: "l.created_at"
        // Rows without a price come last.
        case .cost: "coalesce(\(LogRow.price), '-Infinity'::numeric)"
        case .duration: LogRow.whole("l.response_time_ms")
        }
    }

    fileprivate var sorting: Query { self == .time ? LogRow.order : "\(expression) DESC, l.id DESC" }

    /// The value of a cursor at `l`.
    fileprivate var place: Query { self == .time ? "coalesce(l.created_at::text, 'none')" : "(\(expression))::text" }
}
