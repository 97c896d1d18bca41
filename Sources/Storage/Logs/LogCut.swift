import Domain
import Postgres

/// A moment that cuts logs in two by their time: whole seconds since 2000 in UTC, which reach as far as a `timestamp`
/// does.
struct LogCut: Sendable, Hashable, Comparable {
    let seconds: Int64

    /// Seconds from 1970 to 2000.
    static let epoch: Int64 = 946_684_800
    /// After all times.
    static let distant = LogCut(seconds: .max)

    init(seconds: Int64) {
        self.seconds = seconds
    }

    /// The second of `moment`.
    init(at moment: Timestamp) {
        let (quotient, remainder) = moment.microseconds.quotientAndRemainder(dividingBy: 1_000_000)
        seconds = (remainder < 0 ? quotient - 1 : quotient) - Self.epoch
    }

    /// A second later.
    var next: LogCut { LogCut(seconds: seconds + 1) }

    static func < (left: LogCut, right: LogCut) -> Bool { left.seconds < right.seconds }

    /// The seconds that a finite `timestamp` can have: from 4714-11-24 BC to the end of the year 294276.
    private static let finite: Range<Int64> = -211_813_488_000..<9_223_371_331_200

    /// The `timestamp`; an infinite one where the cut is beyond all finite ones.
    private var moment: Query {
        if seconds < Self.finite.lowerBound { return "'-infinity'::timestamp" }
        if seconds >= Self.finite.upperBound { return "'infinity'::timestamp" }
        // A multiple of a second is a floating-point number, which is exact within a day.
        let rest = (seconds % 86_400 + 86_400) % 86_400
        let days = (seconds - rest) / 86_400
        return "('2000-01-01'::date + \(days)::integer + \(rest)::integer * interval '1 second')"
    }

    /// Whole seconds since 2000 of a finite `timestamp`, rounded down.
    static func seconds(of expression: Query) -> Query {
        "floor(extract(epoch FROM \(expression) - '2000-01-01'::timestamp))::bigint"
    }

    /// Conditions on the time of a row `l`.
    var condition: (from: Query, before: Query) { ("l.created_at >= \(moment)", "l.created_at < \(moment)") }
}
