import Glibc

/// A moment in UTC, in whole microseconds since 1970-01-01. LiteLLM and PostgreSQL have the same resolution.
package struct Timestamp: Sendable, Hashable, Comparable, Codable {
    /// Microseconds since 1970-01-01T00:00:00Z.
    package var microseconds: Int64

    /// The moment so many microseconds after 1970-01-01T00:00:00Z.
    package init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    /// The moment if PostgreSQL's `timestamptz` holds it exactly (4713 BC to 2255), else `nil`.
    package var storable: Timestamp? {
        (-200_000_000_000_000_000...9_000_000_000_000_000).contains(microseconds) ? self : nil
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded towards the past.
    package var milliseconds: Int64 {
        let (quotient, remainder) = microseconds.quotientAndRemainder(dividingBy: 1000)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// The moment `duration` later. It saturates instead of overflowing.
    package func advanced(by duration: Duration) -> Timestamp {
        let (seconds, attoseconds) = duration.components
        let distance = Int128(seconds) * 1_000_000 + Int128(attoseconds / 1_000_000_000_000)
        return Timestamp(microseconds: Int64(clamping: Int128(microseconds) + distance))
    }

    package static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.microseconds < right.microseconds
    }

    /// Reads microseconds since 1970.
    ///
    /// - Throws: `DecodingError` for another value.
    package init(from decoder: any Decoder) throws {
        microseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    /// Writes microseconds since 1970.
    ///
    /// - Throws: What `encoder` throws.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(microseconds)
    }
}

extension Timestamp {
    /// The time of the system clock. Only the programs read it. Other code gets the time as an argument.
    package static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)
    }
}

extension Timestamp {
    private static let day: Int64 = 86_400_000_000

    /// RFC 3339 in UTC with microseconds, as Laravel writes a model's times: `2025-12-27T12:55:52.000000Z`.
    package var laravelText: String { "\(seconds("T")).\(fraction(6))Z" }

    /// RFC 3339 in UTC with milliseconds: `2025-12-27T12:55:52.123Z`.
    package var rfc3339: String { "\(seconds("T")).\(fraction(3))Z" }

    /// As PostgreSQL shows a `timestamp(0)`: `2025-12-27 12:55:52`.
    package var sqlText: String { seconds(" ") }

    /// The days since 1970 of the UTC day, and the microseconds since it began.
    private var parts: (day: Int64, time: Int64) {
        let (quotient, remainder) = microseconds.quotientAndRemainder(dividingBy: Self.day)
        return remainder < 0 ? (quotient - 1, remainder + Self.day) : (quotient, remainder)
    }

    private func seconds(_ separator: String) -> String {
        let (day, time) = parts
        let date = CalendarDate(daysSince1970: day)
        let second = time / 1_000_000
        return
            "\(date)\(separator)\((second / 3600).padded(2)):\((second / 60 % 60).padded(2)):\((second % 60).padded(2))"
    }

    private func fraction(_ digits: Int) -> String { String((parts.time % 1_000_000).padded(6).prefix(digits)) }

    // A pattern in a function is parsed at each call, which took a tenth of a report's time in the service. It never
    // changes, and Swift stores the compiled pattern atomically (`Regex.Program`).
    private nonisolated(unsafe) static let form =
        /(\d{4}-\d{2}-\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+\-])(\d{2}):(\d{2}))/

    /// The moment that `text` writes in RFC 3339 with an offset, such as `2026-11-23T12:00:00.5+03:00`; `nil` for
    /// another text, or for a time that does not exist.
    package init?(rfc3339 text: String) {
        guard let match = text.wholeMatch(of: Self.form), let date = CalendarDate(String(match.1)),
            let hour = Int64(match.2), let minute = Int64(match.3), let second = Int64(match.4),
            hour < 24, minute < 60, second < 60
        else { return nil }
        let fraction = (match.5.map(String.init) ?? "0").padding(6)
        let (offsetHour, offsetMinute) = (match.7.flatMap { Int64($0) } ?? 0, match.8.flatMap { Int64($0) } ?? 0)
        guard offsetHour < 24, offsetMinute < 60 else { return nil }
        let offset = (offsetHour * 3600 + offsetMinute * 60) * (match.6 == "-" ? -1 : 1)
        let whole = hour * 3600 + minute * 60 + second - offset
        self.init(microseconds: date.daysSince1970 * Self.day + whole * 1_000_000 + (Int64(fraction) ?? 0))
    }
}

/// A day of the Gregorian calendar, from year 0 to 9999 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
package struct CalendarDate: Sendable, Hashable, CustomStringConvertible {
    /// Days since 1970-01-01.
    package let daysSince1970: Int64

    /// The day so many days after 1970-01-01.
    package init(daysSince1970: Int64) {
        self.daysSince1970 = daysSince1970
    }

    private nonisolated(unsafe) static let form = /(\d{4})-(\d{2})-(\d{2})/

    /// The day that `text` writes, such as `2026-11-23`; `nil` for another text, or for a day that does not exist.
    package init?(_ text: String) {
        guard let match = text.wholeMatch(of: Self.form), let year = Int64(match.1),
            let month = Int64(match.2), let day = Int64(match.3), (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        let shifted = month > 2 ? year : year - 1
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        daysSince1970 = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        guard description == text else { return nil }
    }

    /// The moment at which it begins in UTC.
    package var start: Timestamp { Timestamp(microseconds: daysSince1970 * 86_400_000_000) }

    /// The day after.
    package var next: CalendarDate { CalendarDate(daysSince1970: daysSince1970 + 1) }

    /// `2026-11-23`
    package var description: String {
        let shifted = daysSince1970 + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return "\(year.padded(4))-\(month.padded(2))-\((dayOfYear - (153 * shiftedMonth + 2) / 5 + 1).padded(2))"
    }
}

extension Int64 {
    /// With leading zeros up to `width` digits.
    fileprivate func padded(_ width: Int) -> String {
        let digits = String(self)
        return String(repeating: "0", count: Swift.max(0, width - digits.count)) + digits
    }
}

extension String {
    /// The first `width` characters, filled up with zeros at the end.
    fileprivate func padding(_ width: Int) -> String {
        prefix(width) + String(repeating: "0", count: Swift.max(0, width - count))
    }
}
