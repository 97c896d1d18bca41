import Analytics
import Domain
import Postgres
import Storage

/// The ranges of time that overviews show, by the calendar of the reader's zone.
struct PagePeriods: Sendable {
    let zone: TimeZoneName
    let today: ReportRange
    /// The same part of the day before.
    let dayBefore: ReportRange
    /// From the first of the month until now.
    let month: ReportRange
    /// The same part of the month before: from its first for as long as this month has run, at most to its end.
    let monthBefore: ReportRange
    /// The rest of the month before; `nil` where ``monthBefore`` is all of it.
    let restOfMonthBefore: ReportRange?
    /// The last 30 days, today included.
    let lastDays: ReportRange

    /// The ranges around `reader.now`.
    ///
    /// - Throws: ``AppError`` `.invalid` for a zone that PostgreSQL does not know; `PostgresError`.
    init(_ reader: Reader, _ connection: Connection) throws {
        let zone = try TimeZoneName.require(reader.zoneName, connection)
        let today = reader.localDay
        func day(_ daysAgo: Int64) -> CalendarDate { CalendarDate(daysSince1970: today.daysSince1970 - daysAgo) }
        let first = day(Int64(today.dayOfMonth - 1))
        let lastOfBefore = CalendarDate(daysSince1970: first.daysSince1970 - 1)
        let firstOfBefore = CalendarDate(daysSince1970: first.daysSince1970 - Int64(lastOfBefore.dayOfMonth))
        let starts = try zone.starts(of: [first, firstOfBefore, today, day(1), day(29)], connection)
        let (monthStart, beforeStart, todayStart, yesterdayStart) = (starts[0], starts[1], starts[2], starts[3])
        func range(_ from: Timestamp, _ to: Timestamp) throws -> ReportRange {
            try ReportRange(from: from, to: to, zone: zone)
        }

        // The quarter hour of now belongs to the range.
        let end = reader.now.advanced(by: .seconds(900))
        /// From `before` for as many quarter hours as are over since `start`, at least one, and at most until `start`.
        func samePart(of start: Timestamp, from before: Timestamp) throws -> ReportRange {
            let elapsed = max(reader.now.microseconds - start.microseconds, 900_000_000)
            return try range(
                before, Timestamp(microseconds: min(before.microseconds + elapsed, start.microseconds)))
        }
        self.zone = zone
        self.today = try range(todayStart, end)
        dayBefore = try samePart(of: todayStart, from: yesterdayStart)
        month = try range(monthStart, end)
        let monthBefore = try samePart(of: monthStart, from: beforeStart)
        self.monthBefore = monthBefore
        restOfMonthBefore = monthBefore.to < monthStart ? try range(monthBefore.to, monthStart) : nil
        lastDays = try range(starts[4], end)
    }
}

extension CalendarDate {
    /// From 1.
    fileprivate var dayOfMonth: Int { Int(description.suffix(2)) ?? 1 }
}
