import Foundation
import Postgres
import Storage

/// Whole UTC days, of one user or of all users, that are to be verified or made again.
package struct RollupRange: Sendable, Hashable {
    static let allTime = Int(Int32.min)..<Int(Int32.max)

    /// Quarter hours since 1970.
    let quarterHours: Range<Int>
    /// `nil` for all users.
    package let user: Int64?

    /// The days from the `from`th since 1970-01-01 to before the `to`th; all where they are `nil`.
    package init(from: Int? = nil, to: Int? = nil, user: Int64? = nil) {
        let low = from.map { $0 * QuarterHour.perDay } ?? Self.allTime.lowerBound
        let high = to.map { $0 * QuarterHour.perDay } ?? Self.allTime.upperBound
        quarterHours = low..<max(low, high)
        self.user = user
    }

    /// These quarter hours, of a user or of all users.
    init(quarterHours: Range<Int>, user: Int64? = nil) {
        self.quarterHours = quarterHours
        self.user = user
    }

    /// The part of which raw rows are still there.
    func unsealed(_ state: RollupState) -> RollupRange {
        let low = min(max(quarterHours.lowerBound, state.sealedBefore), quarterHours.upperBound)
        return RollupRange(quarterHours: low..<quarterHours.upperBound, user: user)
    }

    /// The part of which rows of `api_logs` without an event are still there.
    func withLogs(_ state: RollupState) -> RollupRange {
        let low = min(max(quarterHours.lowerBound, state.logsSealedBefore), quarterHours.upperBound)
        return RollupRange(quarterHours: low..<quarterHours.upperBound, user: user)
    }

    /// The range in parts of at most `days` days.
    func parts(days: Int) -> [RollupRange] {
        stride(from: quarterHours.lowerBound, to: quarterHours.upperBound, by: days * QuarterHour.perDay).map { low in
            RollupRange(
                quarterHours: low..<min(low + days * QuarterHour.perDay, quarterHours.upperBound), user: user)
        }
    }

    /// Whether the column `quarter` lies in it.
    func contains(quarter: Query) -> Query {
        "(\(quarter) >= \(quarterHours.lowerBound) AND \(quarter) < \(quarterHours.upperBound))"
    }

    /// Whether the `date` lies in it.
    func contains(day: Query) -> Query {
        "(\(day) >= \(Self.date(quarterHours.lowerBound)) AND \(day) < \(Self.date(quarterHours.upperBound)))"
    }

    /// Whether it shares a day with the days from the date `from` to before `to`.
    func overlaps(from: Query, to: Query) -> Query {
        "(\(from) < \(Self.date(quarterHours.upperBound)) AND \(to) > \(Self.date(quarterHours.lowerBound)))"
    }

    /// The day that begins with `quarter`; the ends of all time are no days.
    private static func date(_ quarter: Int) -> Query {
        switch quarter {
        case allTime.lowerBound: "'-infinity'::date"
        case allTime.upperBound: "'infinity'::date"
        default: "metering.day_of(\(quarter)::integer)"
        }
    }

    /// Whether the column `user` is one it is about.
    func contains(user column: Query) -> Query {
        guard let user else { return "\(column) <> 0" }
        return "\(column) = \(user)::bigint"
    }
}

/// The raw rows of some days, found without reading those before.
extension RollupRange {
    /// Quarter hours by which the time in an event's key may be later than the event, which is clamped to its arrival:
    /// 24 hours, and one for the clock.
    private static let clampedQuarterHours = 25 * QuarterHour.perHour
    private static let firstIdempotentKey: Query = "'ffff0000-0000-0000-0000-000000000000'::uuid"

    /// A query of what the rows before the watermarks contribute to these quarter hours; those without an event where
    /// they are kept.
    func facts(_ state: RollupState) -> Query {
        """
        \(facts(of: .events, through: state.eventWatermark))
        UNION ALL \(withLogs(state).facts(of: .laravel, through: state.laravelWatermark))
        """
    }

    /// A query of what the rows of `origin`, up to the id `through`, contribute to these quarter hours.
    func facts(of origin: LogOrigin, through: Int64) -> Query {
        let isNear: Query =
            switch origin {
            case .events: isNear(key: "f.event_key")
            case .laravel: isNear(writtenAt: "f.written_at")
            }
        return """
            SELECT f.* FROM \(origin.facts(after: 0, through: through)) f
            WHERE \(isNear) AND \(contains(quarter: "metering.quarter_of(f.occurred_at)"))
              AND \(contains(user: "f.user_id"))
            """
    }

    /// Whether an event with the key in the column `key` may have occurred in these quarter hours. An idempotent event
    /// always may, because its key does not begin with its time.
    func isNear(key: Query) -> Query {
        guard hasBeginning else { return "true" }
        let from: Query = "\(key) >= metering.event_key_floor(\(Self.start(quarterHours.lowerBound)))"
        guard hasEnd else { return from }
        let to: Query = "metering.event_key_floor(\(Self.start(quarterHours.upperBound + Self.clampedQuarterHours)))"
        return "(\(from) AND \(key) < \(to) OR \(key) >= \(Self.firstIdempotentKey))"
    }

    /// Whether a row of `api_logs` written at the column `moment` may count in these quarter hours.
    func isNear(writtenAt moment: Query) -> Query {
        guard hasBeginning else { return "true" }
        let from: Query = "\(moment) >= \(Self.start(quarterHours.lowerBound)) AT TIME ZONE 'UTC'"
        guard hasEnd else { return from }
        return "\(from) AND \(moment) < \(Self.start(quarterHours.upperBound)) AT TIME ZONE 'UTC'"
    }

    /// The months that it touches, whole: a month's counter is made of all of its days.
    var wholeMonths: RollupRange {
        let low = hasBeginning ? Self.month(of: quarterHours.lowerBound).lowerBound : Self.allTime.lowerBound
        let high = hasEnd ? Self.month(of: quarterHours.upperBound - 1).upperBound : Self.allTime.upperBound
        return RollupRange(quarterHours: low..<max(low, high), user: user)
    }

    /// Whether it begins after the epoch, where rows stand whose time is none.
    private var hasBeginning: Bool { quarterHours.lowerBound > 0 }
    private var hasEnd: Bool { quarterHours.upperBound < Self.allTime.upperBound - Self.clampedQuarterHours }

    private static func start(_ quarter: Int) -> Query { "metering.quarter_start(\(quarter)::integer)" }

    private static func month(of quarter: Int) -> Range<Int> {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        let moment = Date(timeIntervalSince1970: Double(quarter * QuarterHour.seconds))
        guard let month = calendar.dateInterval(of: .month, for: moment) else { return allTime }
        let (start, end) = (Int(month.start.timeIntervalSince1970), Int(month.end.timeIntervalSince1970))
        return start / QuarterHour.seconds..<end / QuarterHour.seconds
    }
}
