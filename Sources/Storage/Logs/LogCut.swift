import Domain
import Postgres

/// A moment that cuts logs in two by their time: whole seconds since 2000 in UTC, which reach as far as a `timestamp` does.
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

    /// The `timestamp`.
    var moment: Query { "('2000-01-01'::timestamp + \(seconds)::bigint * interval '1 second')" }

    /// Whole seconds since 2000 of a finite `timestamp`, rounded down.
    static func seconds(of expression: Query) -> Query {
        "floor(extract(epoch FROM \(expression) - '2000-01-01'::timestamp))::bigint"
    }

    /// Conditions on the time of a row `l`.
    var condition: (from: Query, before: Query) { ("l.created_at >= \(moment)", "l.created_at < \(moment)") }
}
