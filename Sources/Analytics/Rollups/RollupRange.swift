import Foundation
import Postgres
import Storage

/// Whole UTC days, of one user or of all, that are to be proved or made again.
package struct RollupRange: Sendable, Hashable {
    static let quartersOfDay = 96
    static let allQuarters = Int(Int32.min)..<Int(Int32.max)

    /// Quarters of an hour since 1970.
    let quarters: Range<Int>
    /// `nil` for all users.
    package let user: Int64?

    /// The days from the `from`th since 1970-01-01 to before the `to`th; all where they are `nil`.
    package init(from: Int? = nil, to: Int? = nil, user: Int64? = nil) {
        let low = from.map { $0 * Self.quartersOfDay } ?? Self.allQuarters.lowerBound
        let high = to.map { $0 * Self.quartersOfDay } ?? Self.allQuarters.upperBound
        quarters = low..<max(low, high)
        self.user = user
    }

    /// These quarters; of a user, or of all users.
    init(quarters: Range<Int>, user: Int64? = nil) {
        self.quarters = quarters
        self.user = user
    }

    /// The part of which raw rows are still there.
    func unsealed(_ state: RollupState) -> RollupRange {
        let low = min(max(quarters.lowerBound, state.sealedBefore), quarters.upperBound)
        return RollupRange(quarters: low..<quarters.upperBound, user: user)
    }

    /// The part of which rows of `api_logs` without an event are still there.
    func withLogs(_ state: RollupState) -> RollupRange {
        let low = min(max(quarters.lowerBound, state.logsSealedBefore), quarters.upperBound)
        return RollupRange(quarters: low..<quarters.upperBound, user: user)
    }

    /// The range in parts of at most `days` days.
    func parts(days: Int) -> [RollupRange] {
        stride(from: quarters.lowerBound, to: quarters.upperBound, by: days * Self.quartersOfDay).map { low in
            RollupRange(
                quarters: low..<min(low + days * Self.quartersOfDay, quarters.upperBound), user: user)
        }
    }

    /// Whether the column `quarter` lies in it.
    func contains(quarter: Query) -> Query {
        "(\(quarter) >= \(quarters.lowerBound) AND \(quarter) < \(quarters.upperBound))"
    }

    /// Whether the `date` lies in it.
    func contains(day: Query) -> Query {
        "(\(day) >= \(Self.date(quarters.lowerBound)) AND \(day) < \(Self.date(quarters.upperBound)))"
    }

    /// Whether it shares a day with the days from the date `from` to before `to`.
    func overlaps(from: Query, to: Query) -> Query {
        "(\(from) < \(Self.date(quarters.upperBound)) AND \(to) > \(Self.date(quarters.lowerBound)))"
    }

    /// The day that begins with `quarter`; the ends of all time are no days.
    private static func date(_ quarter: Int) -> Query {
        switch quarter {
        case allQuarters.lowerBound: "'-infinity'::date"
        case allQuarters.upperBound: "'infinity'::date"
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
    /// Quarters by which the start in an event's key may be later than the event, clamped to its arrival:
    /// 24 hours, and one for the clock.
    private static let clampedQuarters = 25 * 4
    private static let firstNamedKey: Query = "'ffff0000-0000-0000-0000-000000000000'::uuid"

    /// A query of what the rows before the watermarks contribute to these quarters; those without an event where they
    /// are kept.
    func facts(_ state: RollupState) -> Query {
        """
        \(facts(of: .events, through: state.eventWatermark))
        UNION ALL \(withLogs(state).facts(of: .laravel, through: state.laravelWatermark))
        """
    }

    /// A query of what the rows of `origin`, up to the id `through`, contribute to these quarters.
    func facts(of origin: LogOrigin, through: Int64) -> Query {
        let isNear: Query =
            switch origin {
            case .events: isNear(key: "f.event_key")
            case .laravel: isNear(writtenAt: "f.written_at")
            }
        return """
            SELECT f.* FROM \(origin.facts(after: 0, through: through)) f
            WHERE \(isNear) AND \(contains(quarter: "metering.quarter_of(f.occurred_at)")) AND \(contains(user: "f.user_id"))
            """
    }

    /// Whether an event of the column `key` may have occurred in these quarters; a key that its sender named always
    /// may.
    func isNear(key: Query) -> Query {
        guard hasBeginning else { return "true" }
        let from: Query = "\(key) >= metering.event_key_floor(\(Self.start(quarters.lowerBound)))"
        guard hasEnd else { return from }
        let to: Query = "metering.event_key_floor(\(Self.start(quarters.upperBound + Self.clampedQuarters)))"
        return "(\(from) AND \(key) < \(to) OR \(key) >= \(Self.firstNamedKey))"
    }

    /// Whether a row of `api_logs` written at the column `moment` may count in these quarters.
    func isNear(writtenAt moment: Query) -> Query {
        guard hasBeginning else { return "true" }
        let from: Query = "\(moment) >= \(Self.start(quarters.lowerBound)) AT TIME ZONE 'UTC'"
        guard hasEnd else { return from }
        return "\(from) AND \(moment) < \(Self.start(quarters.upperBound)) AT TIME ZONE 'UTC'"
    }

    /// The months that it touches, whole: a month's counter is made of all of its days.
    var wholeMonths: RollupRange {
        let low = hasBeginning ? Self.month(of: quarters.lowerBound).lowerBound : Self.allQuarters.lowerBound
        let high = hasEnd ? Self.month(of: quarters.upperBound - 1).upperBound : Self.allQuarters.upperBound
        return RollupRange(quarters: low..<max(low, high), user: user)
    }

    /// Whether it begins after the epoch, where rows stand whose time is none.
    private var hasBeginning: Bool { quarters.lowerBound > 0 }
    private var hasEnd: Bool { quarters.upperBound < Self.allQuarters.upperBound - Self.clampedQuarters }

    private static func start(_ quarter: Int) -> Query { "metering.quarter_start(\(quarter)::integer)" }

    private static func month(of quarter: Int) -> Range<Int> {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        let moment = Date(timeIntervalSince1970: Double(quarter) * 900)
        guard let month = calendar.dateInterval(of: .month, for: moment) else { return allQuarters }
        return Int(month.start.timeIntervalSince1970) / 900..<Int(month.end.timeIntervalSince1970) / 900
    }
}
