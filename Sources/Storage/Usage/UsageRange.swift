import Postgres

/// Whole UTC days, of one user or of all, that are to be proved or made again.
package struct UsageRange: Sendable, Hashable {
    static let quartersOfDay = 96
    static let allQuarters = Int(Int32.min)..<Int(Int32.max)

    /// Quarters of an hour since 1970.
    let quarters: Range<Int>
    /// `nil` for everybody.
    package let user: Int64?

    /// The days from the `from`th since 1970-01-01 to before the `to`th; all where they are `nil`.
    package init(from: Int? = nil, to: Int? = nil, user: Int64? = nil) {
        let low = from.map { $0 * Self.quartersOfDay } ?? Self.allQuarters.lowerBound
        let high = to.map { $0 * Self.quartersOfDay } ?? Self.allQuarters.upperBound
        quarters = low..<max(low, high)
        self.user = user
    }

    /// These quarters; of a user, or of everybody.
    init(quarters: Range<Int>, user: Int64? = nil) {
        self.quarters = quarters
        self.user = user
    }

    /// The part of which raw rows are still there.
    func unsealed(_ cursor: UsageCursor) -> UsageRange {
        let low = min(max(quarters.lowerBound, cursor.sealedBefore), quarters.upperBound)
        return UsageRange(quarters: low..<quarters.upperBound, user: user)
    }

    /// The part of which rows of `api_logs` without an event are still there.
    func withLogs(_ cursor: UsageCursor) -> UsageRange {
        let low = min(max(quarters.lowerBound, cursor.logsSealedBefore), quarters.upperBound)
        return UsageRange(quarters: low..<quarters.upperBound, user: user)
    }

    /// The range in parts of at most `days` days.
    func parts(days: Int) -> [UsageRange] {
        stride(from: quarters.lowerBound, to: quarters.upperBound, by: days * Self.quartersOfDay).map { low in
            UsageRange(
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
