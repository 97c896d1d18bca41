import Foundation
import Postgres

/// The raw rows of some days, found without reading those before.
extension UsageRange {
    /// Quarters by which the start in an event's key may be later than the event, clamped to its arrival (`design.md` §4):
    /// 24 hours, and one for the clock.
    private static let clampedQuarters = 25 * 4
    private static let firstNamedKey: Query = "'ffff0000-0000-0000-0000-000000000000'::uuid"

    /// A query of what the rows before the cursors contribute to these quarters; those without an event where they are
    /// kept.
    func facts(_ cursor: UsageCursor) -> Query {
        """
        \(facts(of: .events, through: cursor.events))
        UNION ALL \(withLogs(cursor).facts(of: .others, through: cursor.others))
        """
    }

    /// A query of what the rows of `kind`, up to the id `through`, contribute to these quarters.
    func facts(of kind: UsageKind, through: Int64) -> Query {
        let isNear: Query =
            switch kind {
            case .events: isNear(key: "f.event_key")
            case .others: isNear(writtenAt: "f.written_at")
            }
        return """
            SELECT f.* FROM \(kind.facts(after: 0, through: through)) f
            WHERE \(isNear) AND \(contains(quarter: "metering.quarter_of(f.occurred_at)")) AND \(contains(user: "f.user_id"))
            """
    }

    /// Whether an event of the column `key` may have occurred in these quarters; a key that its sender named always may.
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
    var wholeMonths: UsageRange {
        let low = hasBeginning ? Self.month(of: quarters.lowerBound).lowerBound : Self.allQuarters.lowerBound
        let high = hasEnd ? Self.month(of: quarters.upperBound - 1).upperBound : Self.allQuarters.upperBound
        return UsageRange(quarters: low..<max(low, high), user: user)
    }

    /// Whether it begins behind the epoch, where rows stand whose time is none.
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
