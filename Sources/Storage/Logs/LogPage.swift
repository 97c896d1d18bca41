package import Domain
package import Postgres

/// A numbered page of a user's rows, newest first, as Laravel's paginator has it.
package struct LogPage: Sendable, Hashable {
    package let rows: [LogRow]
    /// The number of rows on all pages.
    package let total: Int

    /// The numbers of rows that decide how a page is found.
    package struct Effort: Sendable, Hashable {
        /// A page that begins up to here is found by counting from the first row.
        package var near = 20_000
        /// Up to as many rows are skipped in the index instead of counted in pieces.
        package var few = 50_000
        /// Up to as many rows are read instead of skipped in the index.
        package var fewest = 200

        package init() {}
    }

    /// The page `number`, from 1, of `size` rows each.
    ///
    /// Call it in a snapshot, so that the rows and their number are of one moment. `models` and `statuses` filter;
    /// `nil` means all. `from` and `through` are the first and last UTC day.
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

/// The logs that a filter selects, divided by time into pieces whose rows are counted. So a page is found without
/// reading the rows before it.
///
/// The counts use only an index, for several pieces at once. They are exact in the snapshot, whatever other writers did
/// to the rows.
struct LogPieces {
    struct Piece {
        enum Times {
            /// All logs, those without a time first.
            case any
            case none
            /// From a time, and before another; `nil` without a bound.
            case between(LogCut?, LogCut?)
        }

        var times: Times
        var rows = 0

        fileprivate var condition: Query {
            switch times {
            case .any: "true"
            case .none: "l.created_at IS NULL"
            case .between(nil, nil): "l.created_at IS NOT NULL"
            case .between(let from?, nil): from.condition.from
            case .between(nil, let to?): to.condition.before
            case .between(let from?, let to?): "\(from.condition.from) AND \(to.condition.before)"
            }
        }
    }

    /// The number of pieces that are counted at a time.
    private static let count: Int64 = 16

    let filter: LogFilter
    let effort: LogPage.Effort
    let connection: Connection

    /// The number of rows.
    func total() throws -> Int {
        try connection.query("SELECT count(*) FROM public.api_logs l WHERE \(filter.condition)")[0].decode(0)
    }

    /// All rows, the latest piece first.
    func all() throws -> [Piece] {
        let timed = try divide(.between(nil, nil))
        return filter.from == nil && filter.to == nil ? try counted([Piece(times: .none)]) + timed : timed
    }

    /// The piece that has the row after the first `offset` of `pieces`, and how many of its rows are before it. `nil`
    /// where there is none.
    func find(_ offset: Int, in pieces: [Piece]) throws -> (piece: Piece, offset: Int)? {
        var rest = offset
        for piece in pieces {
            if rest >= piece.rows {
                rest -= piece.rows
                continue
            }
            guard case .between = piece.times, min(rest, piece.rows - rest) > effort.few else { return (piece, rest) }
            let parts = try divide(piece.times)
            // A single part has rows of one second only.
            return parts.count > 1 ? try find(rest, in: parts) : (piece, rest)
        }
        return nil
    }

    /// The time of the row after the first `offset` of `piece`, as text, and how many rows of that time are before it.
    ///
    /// Goes through the index from the nearer end. `nil` where the row has no time.
    func place(of offset: Int, in piece: Piece) throws -> (time: String, offset: Int)? {
        let after = piece.rows - 1 - offset
        let (isNearEnd, skipped) = after < offset ? (true, after) : (false, offset)
        let order: Query = isNearEnd ? "ASC" : "DESC"
        let opposite: Query = isNearEnd ? "DESC" : "ASC"
        let rows = try connection.query(
            """
            SELECT p.time::text, p.rows, CASE WHEN \(isNearEnd)::boolean THEN
                       (SELECT count(*) FROM public.api_logs l WHERE \(filter.condition) AND l.created_at = p.time) END
            FROM (SELECT s.time, count(*) AS rows
                  FROM (SELECT l.created_at AS time FROM public.api_logs l
                        WHERE \(filter.condition) AND \(piece.condition)
                        ORDER BY l.created_at \(order) LIMIT \(skipped + 1)) s
                  GROUP BY s.time ORDER BY s.time \(opposite) LIMIT 1) p
            """)
        guard let row = rows.first, let time = try row.decode(0, as: String?.self) else { return nil }
        let (passed, same) = (try row.decode(1, as: Int.self), try row.decode(2, as: Int?.self))
        return (time, same.map { $0 - passed } ?? passed - 1)
    }

    /// Divides the time between the first and the last row into equal parts.
    private func divide(_ times: Piece.Times) throws -> [Piece] {
        guard case .between(let from, let to) = times else { return [] }
        var bare = LogFilter(userID: filter.userID)
        bare.from = filter.from
        bare.to = filter.to
        let row = try connection.query(
            """
            SELECT \(LogCut.seconds(of: "min(l.created_at)")), \(LogCut.seconds(of: "max(l.created_at)"))
            FROM public.api_logs l
            WHERE \(bare.condition) AND \(Piece(times: times).condition)
              AND l.created_at > '-infinity' AND l.created_at < 'infinity'
            """)[0]
        let (first, last) = try row.decode(Int64?.self, Int64?.self)
        var ends: [LogCut?] = [to]
        if let first, let last, first < last {
            let steps = min(Self.count, last - first)
            ends += (1...steps).reversed().map { LogCut(seconds: first + (last - first) / steps * $0) }
        }
        return try counted(zip(ends, ends.dropFirst() + [from]).map { Piece(times: .between($1, $0)) })
    }

    private func counted(_ pieces: [Piece]) throws -> [Piece] {
        let counts: [Query] = pieces.enumerated().map { index, piece in
            """
            SELECT \(unsafeSQL: String(index)), count(*) FROM public.api_logs l
            WHERE \(filter.condition) AND \(piece.condition)
            """
        }
        var pieces = pieces
        for row in try connection.query(counts.dropFirst().reduce(counts[0]) { "\($0) UNION ALL \($1)" }) {
            pieces[try row.decode(0, as: Int.self)].rows = try row.decode(1)
        }
        return pieces
    }
}
