import Domain
import Postgres

/// Reads the logs of all users from the latest to the first, in stretches of time.
///
/// A stretch is read whole and sorted, so it should have about as many logs as are asked for. The rollups show how
/// long such a stretch is. If they are wrong, a stretch has more or fewer logs, and the next one is shorter or longer.
/// No log is left out.
struct LogWalk {
    /// Where a walk starts.
    enum Start {
        /// At the logs without a time, if no range excludes them.
        case beginning
        /// At the latest time.
        case latest
        /// Before a cut.
        case before(LogCut)
        /// Before all finite times.
        case last
    }

    private enum Step {
        case timeless
        /// Before a cut; `nil` for all logs with a time.
        case before(LogCut?)
        case end
    }

    let source: LogSource
    private let filter: LogFilter
    private let connection: Connection
    /// The number of logs that a stretch should have.
    var target: Int
    /// The factor by which more logs are read, because the filter excludes some.
    private var scale = 1
    private var next: Step
    /// The first finite time; `nil` while it is unknown.
    private var floor: LogCut?

    /// Begins a walk: asks how the logs that `filter` selects are found.
    ///
    /// - Throws: ``PostgresError``.
    static func begin(
        _ filter: LogFilter, from start: Start, target: Int, on connection: Connection
    ) throws -> LogWalk {
        LogWalk(filter, try LogSource.find(filter, connection), from: start, target: target, connection)
    }

    private init(
        _ filter: LogFilter, _ source: LogSource, from start: Start, target: Int, _ connection: Connection
    ) {
        (self.filter, self.source, self.target, self.connection) = (filter, source, target, connection)
        floor = filter.from.map { LogCut(at: $0) }
        let end = filter.to.map { LogCut(at: $0).next }
        switch start {
        case .beginning: next = filter.from == nil && filter.to == nil ? .timeless : .before(end)
        case .latest: next = .before(end)
        case .before(let cut): next = .before(end.map { min($0, cut) } ?? cut)
        case .last: (next, floor) = (.before(nil), .distant)
        }
    }

    /// The condition on the logs `l` of the next stretch; `nil` where the walk has ended.
    mutating func stretch() throws -> Query? {
        switch next {
        case .end: return nil
        case .timeless:
            next = .before(nil)
            return "l.created_at IS NULL"
        case .before(let end):
            let begin = source.way == .table ? nil : try begin(before: end)
            next = begin.map { .before($0) } ?? .end
            switch (begin, end) {
            case (let begin?, let end?): return "\(begin.condition.from) AND \(end.condition.before)"
            case (let begin?, nil): return begin.condition.from
            case (nil, let end?): return end.condition.before
            case (nil, nil): return "l.created_at IS NOT NULL"
            }
        }
    }

    /// Adapts the length to the number of logs of the last stretch.
    mutating func note(_ rows: Int) throws {
        guard case .before(let end?) = next else { return }
        if rows == 0 {
            // A longer stretch after a gap would hold far too many.
            guard let latest = try source.latest(before: end, connection)?.next else {
                (next, floor) = (.before(end), .distant)
                return
            }
            if latest < end {
                next = .before(latest)
                return
            }
        }
        if rows <= target / 4 {
            scale = min(scale * 4, 1 << 36)
            floor = try floor ?? source.earliest(connection) ?? .distant
        } else if rows / 4 > target {
            scale = max(1, scale / 4)
        }
    }

    /// The start of the stretch before `end`; `nil` for the last one.
    private func begin(before end: LogCut?) throws -> LogCut? {
        if let floor, let end, end <= floor { return nil }
        let hint = try hint(before: end)
        let begin =
            if let hint, end.map({ hint < $0 }) ?? true {
                hint
            } else {
                LogCut(seconds: try (end?.seconds ?? now()) - 3600 * Int64(scale))
            }
        return floor.map { begin <= $0 } ?? false ? nil : begin
    }

    /// The start of the last `target` logs before `end`, by the rollups; `nil` if they have none.
    private func hint(before end: LogCut?) throws -> LogCut? {
        let goal = target.multipliedReportingOverflow(by: scale)
        let rows = goal.overflow ? Int.max : goal.partialValue
        let second = end.map { $0.seconds - 1 + LogCut.epoch } ?? .max
        guard second >= 0 else { return nil }
        let intervals = try connection.query(
            """
            SELECT max(s.quarter) FILTER (WHERE s.total >= \(rows)), min(s.quarter)
            FROM (SELECT u.quarter, sum(sum(u.requests)) OVER (ORDER BY u.quarter DESC) AS total
                  FROM metering.rollup_15m u
                  WHERE u.user_id = 0 AND u.quarter <= \(Int64(min(second / 900, Int64(Int32.max))))::integer
                  GROUP BY u.quarter ORDER BY u.quarter DESC LIMIT 200) s
            """)[0]
        let (quarter, last) = try intervals.decode(Int64?.self, Int64?.self)
        guard let last else { return nil }
        if let quarter { return LogCut(seconds: quarter * 900 - LogCut.epoch) }
        let day = try connection.query(
            """
            SELECT coalesce(max(s.day) FILTER (WHERE s.total >= \(rows)), min(s.day)) - '1970-01-01'::date
            FROM (SELECT u.day, sum(sum(u.requests)) OVER (ORDER BY u.day DESC) AS total
                  FROM metering.rollup_day u
                  WHERE u.user_id = 0 AND u.day < metering.day_of(\(last)::integer)
                  GROUP BY u.day ORDER BY u.day DESC LIMIT 400) s
            """)[0].decode(0, as: Int64?.self)
        return LogCut(seconds: (day.map { $0 * 86_400 } ?? last * 900) - LogCut.epoch)
    }

    private func now() throws -> Int64 {
        try connection.query("SELECT \(LogCut.seconds(of: "(now() AT TIME ZONE 'UTC')"))")[0].decode(0)
    }
}
