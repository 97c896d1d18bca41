package import Domain

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
    /// - Throws: ``AppError`` `.invalid` where nothing is left between them, or they lie outside the years 1970 to 9999.
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
    /// The first moment behind it.
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
