package import Domain
package import Postgres
import Storage

/// The stretch of time that a report is about, half-open, in whole quarter hours, and the zone of its days.
package struct ReportRange: Sendable, Hashable {
    /// Quarter hours since 1970.
    let quarterHours: Range<Int>
    package let zone: TimeZoneName

    /// 1970 to 9999, which the time of a log may be.
    private static let time = 0..<281_404_032

    /// All there is.
    package static let allTime = ReportRange(quarterHours: time, zone: .utc)

    /// From the quarter hour that holds `from` to before the one that holds `to`.
    ///
    /// - Throws: ``AppError`` `.invalid` where nothing is left between them, or they lie outside the years 1970 to
    ///   9999.
    package init(from: Timestamp, to: Timestamp, zone: TimeZoneName = .utc) throws(AppError) {
        let (low, high) = (QuarterHour.holding(from), QuarterHour.holding(to))
        guard Self.time.contains(low), high <= Self.time.upperBound else {
            throw AppError(.invalid, "The range lies between 1970 and 9999.")
        }
        guard low < high else {
            throw AppError(
                .invalid, "The range ends at least a quarter hour after it begins; both are cut to quarter hours.")
        }
        self.init(quarterHours: low..<high, zone: zone)
    }

    init(quarterHours: Range<Int>, zone: TimeZoneName) {
        self.quarterHours = quarterHours
        self.zone = zone
    }

    /// Its first moment: what was asked for, cut to a quarter hour.
    package var from: Timestamp { QuarterHour.start(of: quarterHours.lowerBound) }
    /// The first moment after it.
    package var to: Timestamp { QuarterHour.start(of: quarterHours.upperBound) }
    /// Where its one bucket begins and ends.
    var boundaries: [Int] { [quarterHours.lowerBound, quarterHours.upperBound] }

    /// The range of the same length that ends where this one begins; `nil` before 1970.
    package var previous: ReportRange? {
        let low = quarterHours.lowerBound - quarterHours.count
        return low < 0 ? nil : ReportRange(quarterHours: low..<quarterHours.lowerBound, zone: zone)
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
        switch range.quarterHours.count {
        case ...(QuarterHour.perHour * 48): .hour
        case ...(QuarterHour.perDay * 92): .day
        case ...(QuarterHour.perDay * 366): .week
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
        guard range.quarterHours.count <= shortest * Self.maximumBuckets else {
            let coarser = Self.allCases.first { range.quarterHours.count <= $0.shortest * Self.maximumBuckets }
            throw AppError(
                .invalid,
                """
                An answer has at most \(Self.maximumBuckets) buckets, too few for the granularity \(rawValue). \
                Ask for \(coarser?.rawValue ?? Self.month.rawValue), or for a shorter range.
                """)
        }
        return [range.quarterHours.lowerBound] + (try begins(in: range, connection)) + [range.quarterHours.upperBound]
    }

    /// Where buckets begin inside `range`, ascending.
    private func begins(in range: ReportRange, _ connection: Connection) throws -> [Int] {
        if range.zone == .utc, self == .hour || self == .day {
            let first = (range.quarterHours.lowerBound / shortest + 1) * shortest
            return Array(stride(from: first, to: range.quarterHours.upperBound, by: shortest))
        }
        return try connection.query(statement(range))[0].decode(0)
    }

    /// Where buckets begin inside `range`, by the clocks of its zone.
    func statement(_ range: ReportRange) -> Query {
        let zone = range.zone.region
        // Where the clocks went back over midnight, the last local time is not the latest.
        let locals: Query = """
            SELECT generate_series(date_trunc(\(rawValue), \(range.from) AT TIME ZONE \(zone)),
                                   \(range.to) AT TIME ZONE \(zone) + interval '1 day',
                                   \("1 \(rawValue)")::interval) AS local
            """
        let begins: Query =
            self == .hour
            ? LocalTime.hours(in: range.quarterHours, of: range.zone)
            : """
            SELECT metering.quarter_of(i.instant) AS quarter
            FROM (\(LocalTime.instants(of: locals, in: range.zone))) i
            """
        return """
            SELECT coalesce(array_agg(DISTINCT b.quarter ORDER BY b.quarter), '{}')
            FROM (\(begins)) b
            WHERE b.quarter > \(range.quarterHours.lowerBound) AND b.quarter < \(range.quarterHours.upperBound)
            """
    }

    /// How long the shortest bucket is, in quarter hours.
    private var shortest: Int {
        switch self {
        case .hour: QuarterHour.perHour
        case .day: QuarterHour.perDay
        case .week: QuarterHour.perDay * 7
        case .month: QuarterHour.perDay * 28
        }
    }
}
