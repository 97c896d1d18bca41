package import Domain
package import Postgres
import Storage

/// The stretch of time a report is about, half-open, in whole quarters of an hour, and the zone of its days.
package struct ReportRange: Sendable, Hashable {
    /// Quarters of an hour since 1970.
    let quarters: Range<Int>
    package let zone: TimeZoneName

    /// Microseconds.
    private static let quarter: Int64 = 900_000_000
    /// 1970 to 9999, what a row's time may be.
    private static let time = 0..<281_404_032

    /// All there is.
    package static let allTime = ReportRange(quarters: time, zone: .utc)

    /// From the quarter that holds `from` to before the one that holds `to`.
    ///
    /// - Throws: ``AppError`` `.invalid` where nothing is left between them, or they lie outside the years 1970 to
    ///   9999.
    package init(from: Timestamp, to: Timestamp, zone: TimeZoneName = .utc) throws(AppError) {
        let (low, high) = (Self.floor(from), Self.floor(to))
        guard Self.time.contains(low), high <= Self.time.upperBound else {
            throw AppError(.invalid, "The range lies between 1970 and 9999.")
        }
        guard low < high else {
            throw AppError(
                .invalid, "The range ends at least a quarter of an hour behind its begin; both are cut to quarters.")
        }
        self.init(quarters: low..<high, zone: zone)
    }

    init(quarters: Range<Int>, zone: TimeZoneName) {
        self.quarters = quarters
        self.zone = zone
    }

    /// Its first moment: what was asked for, cut to a quarter of an hour.
    package var from: Timestamp { Self.start(of: quarters.lowerBound) }
    /// The first moment after it.
    package var to: Timestamp { Self.start(of: quarters.upperBound) }
    /// Where its one bucket begins and ends.
    var boundaries: [Int] { [quarters.lowerBound, quarters.upperBound] }

    /// The range of the same length that ends where this one begins; `nil` before 1970.
    package var previous: ReportRange? {
        let low = quarters.lowerBound - quarters.count
        return low < 0 ? nil : ReportRange(quarters: low..<quarters.lowerBound, zone: zone)
    }

    /// When `quarter` begins.
    static func start(of quarter: Int) -> Timestamp { Timestamp(microseconds: Int64(quarter) * Self.quarter) }

    /// The quarter that holds `moment`.
    static func floor(_ moment: Timestamp) -> Int {
        let (quotient, remainder) = moment.microseconds.quotientAndRemainder(dividingBy: quarter)
        return Int(remainder < 0 ? quotient - 1 : quotient)
    }

    /// The first quarter that begins at `moment` or later.
    static func ceiling(_ moment: Timestamp) -> Int {
        let floor = floor(moment)
        return start(of: floor) == moment ? floor : floor + 1
    }
}

extension ReportRange {
    /// The same range a year before, by the calendar of its zone.
    ///
    /// - Throws: ``AppError`` `.invalid` before 1970; `PostgresError`.
    package func yearBefore(_ connection: Connection) throws -> ReportRange {
        func moved(_ moment: Timestamp) -> Query {
            LocalTime.instant(of: "((\(moment)) AT TIME ZONE \(zone.region) - interval '1 year')", in: zone)
        }
        let rows = try connection.query(
            "SELECT extract(epoch FROM \(moved(from)))::bigint, extract(epoch FROM \(moved(to)))::bigint")
        let (start, end) = try rows[0].decode(Int64.self, Int64.self)
        return try ReportRange(
            from: Timestamp(microseconds: start * 1_000_000), to: Timestamp(microseconds: end * 1_000_000), zone: zone)
    }
}

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

    /// Where the buckets of `range` begin, and where the last one ends; the first and last may be parts of a day or
    /// month.
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
