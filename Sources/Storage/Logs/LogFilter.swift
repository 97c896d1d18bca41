package import Domain
import Postgres

/// Conditions on logs. A log must meet all that are not `nil`.
package struct LogFilter: Sendable, Hashable {
    /// The user; `nil` for all users.
    package var userID: Int64?
    /// One of these models. With an empty list no log is found.
    package var models: [String]?
    /// One of these providers. Rows without an event have none.
    package var providers: [String]?
    /// One of these statuses.
    package var statuses: [String]?
    /// Flags of ``UsageEvent``.
    package var flags: [String]?
    /// The first moment of the range. Rows without a time are outside of every range.
    package var from: Timestamp?
    /// The end of the range, not included.
    package var to: Timestamp?
    /// The least Laravel cost in USD.
    package var minimumCost: DecimalLiteral?
    /// The least duration.
    package var minimumDurationMilliseconds: Int64?
    /// A part of the error message, in any case.
    package var errorText: String?

    package init(userID: Int64? = nil) {
        self.userID = userID
    }

    /// The condition on a row `l`.
    var condition: Query {
        let facts: Query = "metering.events e WHERE \(IDLine.isRowOfEvent)"
        let conditions: [Query?] = [
            userID.map { "l.user_id = \($0)" },
            models.map { Self.isOne(of: $0, "l.model", ofMissing: "unknown") },
            providers.map { "EXISTS (SELECT FROM \(facts) AND e.provider = ANY(\($0)::text[]))" },
            statuses.map { Self.isOne(of: $0, "l.status", ofMissing: "success") },
            flags.map { "EXISTS (SELECT FROM \(facts) AND e.flags && \($0)::text[])" },
            from.map { "l.created_at >= (\($0) AT TIME ZONE 'UTC')" },
            to.map { "l.created_at < (\($0) AT TIME ZONE 'UTC')" },
            minimumCost.map { "\(LogRow.price) >= \($0.text)::numeric" },
            // A row without a duration is shown with 0.
            minimumDurationMilliseconds.flatMap { $0 > 0 ? "l.response_time_ms >= \($0)" : nil },
            errorText.map { TextSearch.condition("l.error_message", has: $0) },
        ]
        return conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
    }

    /// The condition on a column. A row whose column is NULL is shown with the value `missing` (``LogRow/columns``),
    /// and found by it. A single value becomes an equation, under which an index keeps its order.
    private static func isOne(of values: [String], _ column: Query, ofMissing missing: String) -> Query {
        let isOne: Query = values.count == 1 ? "\(column) = \(values[0])" : "\(column) = ANY(\(values)::text[])"
        return values.contains(missing) ? "(\(isOne) OR \(column) IS NULL)" : isOne
    }
}

/// A moment that divides logs by their time: whole seconds since 2000 in UTC, with the range of a `timestamp`.
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

    /// The `timestamp`; infinite where the cut is beyond all finite ones.
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
