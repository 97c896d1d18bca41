import Domain
package import Postgres

/// How finely a report cuts its range: at the hours, days, weeks (from Monday) or months of the range's zone.
package enum Granularity: String, Sendable, CaseIterable {
    case hour, day, week, month

    /// Buckets that one answer may have.
    package static let maximumBuckets = 1_000

    /// The finest that cuts `range` into a readable number of buckets: up to 48 hours, 92 days, a year of weeks.
    package static func fitting(_ range: ReportRange) -> Granularity {
        switch range.quarters.count {
        case ...(4 * 48): .hour
        case ...(96 * 92): .day
        case ...(96 * 366): .week
        default: .month
        }
    }

    /// Where the buckets of `range` begin, and where the last one ends; the first and last may be parts of a day or month.
    ///
    /// A local day begins at its first midnight (``LocalTime``), so days, weeks and months follow each other without a
    /// gap wherever the clocks change. A local hour that comes twice is two. The hours and days of UTC begin at their
    /// multiples.
    ///
    /// - Throws: ``AppError`` `.invalid` where there would be more than ``maximumBuckets``; `PostgresError`.
    package func boundaries(of range: ReportRange, _ connection: Connection) throws -> [Int] {
        guard range.quarters.count <= quarters * Self.maximumBuckets else {
            let coarser = Self.allCases.first { range.quarters.count <= $0.quarters * Self.maximumBuckets }
            throw AppError(
                .invalid,
                """
                An answer has at most \(Self.maximumBuckets) buckets, too few for the granularity \(rawValue). \
                Ask for \(coarser?.rawValue ?? Self.month.rawValue), or for a shorter range.
                """)
        }
        return [range.quarters.lowerBound] + (try begins(in: range, connection)) + [range.quarters.upperBound]
    }

    /// Where buckets begin inside `range`, ascending.
    private func begins(in range: ReportRange, _ connection: Connection) throws -> [Int] {
        if range.zone == .utc, self == .hour || self == .day {
            let first = (range.quarters.lowerBound / quarters + 1) * quarters
            return Array(stride(from: first, to: range.quarters.upperBound, by: quarters))
        }
        let zone = range.zone.region
        // Where the clocks went back over midnight, the last local time is not the latest.
        let locals: Query = """
            SELECT generate_series(date_trunc(\(rawValue), \(range.from) AT TIME ZONE \(zone)),
                                   \(range.to) AT TIME ZONE \(zone) + interval '1 day', \("1 \(rawValue)")::interval) AS local
            """
        let begins: Query =
            self == .hour
            ? LocalTime.hours(in: range.quarters, of: range.zone)
            : "SELECT metering.quarter_of(i.instant) AS quarter FROM (\(LocalTime.instants(of: locals, in: range.zone))) i"
        let rows = try connection.query(
            """
            SELECT coalesce(array_agg(DISTINCT b.quarter ORDER BY b.quarter), '{}')
            FROM (\(begins)) b
            WHERE b.quarter > \(range.quarters.lowerBound) AND b.quarter < \(range.quarters.upperBound)
            """)
        return try rows[0].decode(0)
    }

    /// The shortest bucket, in quarters of an hour.
    private var quarters: Int {
        switch self {
        case .hour: 4
        case .day: 96
        case .week: 96 * 7
        case .month: 96 * 28
        }
    }
}
