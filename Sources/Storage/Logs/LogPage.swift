package import Domain
package import Postgres

/// A numbered page of a user's rows, newest first, as Laravel's paginator has it.
package struct LogPage: Sendable, Hashable {
    package let rows: [LogRow]
    /// Rows on all pages.
    package let total: Int

    /// The page `number`, from 1, of `size` rows each.
    ///
    /// The number of rows, and the day on which a page begins, come from the sums, and only that day's rows before the page are
    /// passed over. In a snapshot, so that both are of one moment.
    /// `models` and `statuses` are those that count, `nil` for all; `from` and `through` are the first and last UTC day.
    package static func read(
        of user: Int64, number: Int, size: Int, models: [String]? = nil, statuses: [String]? = nil,
        from: CalendarDate? = nil, through: CalendarDate? = nil, _ connection: Connection
    ) throws -> LogPage {
        let days = try LogDays(
            of: user, models: models, statuses: statuses, from: from, through: through, connection)
        let (offset, overflow) = (number - 1).multipliedReportingOverflow(by: size)
        guard !overflow, offset < days.total else { return LogPage(rows: [], total: days.total) }
        var filter = LogFilter(userID: user)
        filter.models = models
        filter.statuses = statuses
        filter.from = from?.start
        filter.to = through?.next.start
        var skipped = offset
        if let position = days.position(of: offset) {
            filter.to = position.day.next.start
            skipped = position.rowsBefore
        }
        let rows = try connection.query(
            """
            SELECT \(LogRow.columns) FROM public.api_logs l WHERE \(filter.condition)
            ORDER BY \(LogRow.order) LIMIT \(size) OFFSET \(skipped)
            """)
        return LogPage(rows: try rows.map(LogRow.init), total: days.total)
    }
}
