import Domain
import Postgres
import Storage

/// The arithmetic of quarter hours since 1970, in which rollups and reports count time. In SQL, `metering.quarter_of`,
/// `metering.quarter_start` and `metering.day_of` do the same.
enum QuarterHour {
    static let microseconds: Int64 = 900_000_000
    static let seconds = 900
    static let perHour = 4
    static let perDay = 96

    /// When `quarter` begins.
    static func start(of quarter: Int) -> Timestamp { Timestamp(microseconds: Int64(quarter) * microseconds) }

    /// The quarter hour that holds `moment`.
    static func holding(_ moment: Timestamp) -> Int {
        let (quotient, remainder) = moment.microseconds.quotientAndRemainder(dividingBy: microseconds)
        return Int(remainder < 0 ? quotient - 1 : quotient)
    }

    /// The first quarter hour that begins at `moment` or later.
    static func first(from moment: Timestamp) -> Int {
        let quarter = holding(moment)
        return start(of: quarter) == moment ? quarter : quarter + 1
    }

    /// The quarter hour at which the UTC day of `quarter`, which is after 1970, begins.
    static func midnight(before quarter: Int) -> Int { quarter / perDay * perDay }
}

extension QuarterHour {
    /// The quarter hour at which the UTC month of `moment` begins.
    ///
    /// - Throws: `PostgresError`.
    static func firstOfMonth(_ moment: Timestamp, _ connection: Connection) throws -> Int {
        try connection.query(
            "SELECT metering.quarter_of(date_trunc('month', \(moment) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"
        )[0].decode(0)
    }
}
