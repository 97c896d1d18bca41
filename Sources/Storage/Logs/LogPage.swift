package import Domain
package import Postgres

/// A numbered page of a user's rows, newest first, as Laravel's paginator has it.
package struct LogPage: Sendable, Hashable {
    package let rows: [LogRow]
    /// Rows on all pages.
    package let total: Int

    /// From how many rows on which way to a page is worth it.
    package struct Effort: Sendable, Hashable {
        /// Pages that begin up to here are found from the first row on.
        package var near = 20_000
        /// Rows that are rather passed over in the index than counted in pieces.
        package var few = 50_000
        /// Rows that are rather read than passed over in the index.
        package var fewest = 200

        package init() {}
    }

    /// The page `number`, from 1, of `size` rows each.
    ///
    /// In a snapshot, so that the rows and their number are of one moment; both are those of the table. `models` and
    /// `statuses` are those that count, `nil` for all; `from` and `through` are the first and last UTC day.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(
        of user: Int64, number: Int, size: Int, models: [String]? = nil, statuses: [String]? = nil,
        from: CalendarDate? = nil, through: CalendarDate? = nil, effort: Effort = Effort(), _ connection: Connection
    ) throws -> LogPage {
        try LogSource.prepare(connection)
        var filter = LogFilter(userID: user)
        filter.models = models
        filter.statuses = statuses
        filter.from = from?.start
        filter.to = through?.next.start
        let pieces = LogPieces(filter: filter, effort: effort, connection: connection)
        let (offset, overflow) = (number - 1).multipliedReportingOverflow(by: size)
        guard !overflow, offset > effort.near else {
            let total = try pieces.total()
            guard !overflow, offset < total else { return LogPage(rows: [], total: total) }
            let everything = LogPieces.Piece(times: .any, rows: total)
            return LogPage(rows: try rows(offset, of: everything, size, pieces), total: total)
        }
        let all = try pieces.all()
        let total = all.reduce(0) { $0 + $1.rows }
        guard let (piece, skipped) = try pieces.find(offset, in: all) else { return LogPage(rows: [], total: total) }
        return LogPage(rows: try rows(skipped, of: piece, size, pieces), total: total)
    }

    /// `size` rows after the first `offset` of `piece`, and of the pieces after it.
    private static func rows(
        _ offset: Int, of piece: LogPieces.Piece, _ size: Int, _ pieces: LogPieces
    ) throws -> [LogRow] {
        var (condition, skipped) = (pieces.filter.condition, offset)
        if offset > pieces.effort.fewest, let place = try pieces.place(of: offset, in: piece) {
            condition = "\(condition) AND l.created_at <= \(place.time)::timestamp"
            skipped = place.offset
        } else if case .between(_, let to?) = piece.times {
            condition = "\(condition) AND \(to.condition.before)"
        } else if case .between(_, nil) = piece.times {
            condition = "\(condition) AND l.created_at IS NOT NULL"
        }
        return try pieces.connection.query(
            """
            SELECT \(LogRow.columns) FROM public.api_logs l WHERE \(condition)
            ORDER BY \(LogRow.order) LIMIT \(size) OFFSET \(skipped)
            """
        ).map(LogRow.init)
    }
}
