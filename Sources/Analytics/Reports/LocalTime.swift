package import Domain
package import Postgres
import Storage

/// When a clock on the wall shows a time: the one place where local times become moments.
///
/// A local time is the first moment at which the zone's clock shows it or a later one. So a time that comes twice is
/// its first, and a time that is skipped is the end of the gap. PostgreSQL knows the zones, and nothing else is asked
/// about them; but its `AT TIME ZONE` takes the second of two, and moves a skipped time by the gap.
enum LocalTime {
    /// Offsets are within 15 hours, so what is in force this long before and after the same time in UTC decides.
    private static let reach: Query = "interval '16 hours'"

    /// A query of (local, instant) for the rows of `locals`, whose column `local` is a `timestamp`.
    static func instants(of locals: Query, in zone: TimeZoneName) -> Query {
        let name = zone.region
        return """
            SELECT o.local, CASE WHEN o.earlier = o.later THEN o.earlier ELSE coalesce(
                       (SELECT min(c.instant) FROM (VALUES (o.earlier), (o.later)) AS c (instant)
                        WHERE c.instant AT TIME ZONE \(name) = o.local),
                       -- It is skipped: the clocks went forward between these two.
                       (SELECT min(c.instant)
                        FROM generate_series(date_trunc('minute', o.later), o.earlier, interval '1 minute')
                             AS c (instant)
                        WHERE c.instant AT TIME ZONE \(name) >= o.local)) END AS instant
            FROM (
                -- The moment by the offset before, and by the one after, a change of the clocks nearby.
                SELECT l.local,
                       l.utc - ((l.utc - \(reach)) AT TIME ZONE \(name) - (l.local - \(reach))) AS earlier,
                       l.utc - ((l.utc + \(reach)) AT TIME ZONE \(name) - (l.local + \(reach))) AS later
                FROM (SELECT x.local, x.local AT TIME ZONE 'UTC' AS utc FROM (\(locals)) x) l
            ) o
            """
    }

    /// The moment of one `local` time.
    static func instant(of local: Query, in zone: TimeZoneName) -> Query {
        "(SELECT i.instant FROM (\(instants(of: "SELECT \(local) AS local", in: zone))) i)"
    }

    /// A query of the quarter hours in `quarterHours` at which a local hour begins, (quarter): where the clock's hour
    /// changes, or its offset does. So an hour that comes twice is two.
    static func hours(in quarterHours: Range<Int>, of zone: TimeZoneName) -> Query {
        """
        SELECT h.quarter
        FROM (
            SELECT c.*, lag(c.hour) OVER w AS hour_before, lag(c.utc_offset) OVER w AS offset_before
            FROM (
                SELECT s.quarter, date_trunc('hour', s.local) AS hour, s.local - s.utc AS utc_offset
                FROM (
                    -- By its last second: where the clocks change inside a quarter, the change is moved to its begin.
                    SELECT q.quarter,
                           (metering.quarter_start(q.quarter) + interval '899 s') AT TIME ZONE \(zone.region) AS local,
                           (metering.quarter_start(q.quarter) + interval '899 s') AT TIME ZONE 'UTC' AS utc
                    FROM generate_series(\(quarterHours.lowerBound)::integer,
                                         \(quarterHours.upperBound)::integer) AS q (quarter)
                ) s
            ) c
            WINDOW w AS (ORDER BY c.quarter)
        ) h
        WHERE (h.hour, h.utc_offset) IS DISTINCT FROM (h.hour_before, h.offset_before)
        """
    }
}

/// A time zone that PostgreSQL knows; ``LocalTime`` says where its days begin.
///
/// A zone whose offset is no multiple of 15 minutes (none today; some were before 1972, Liberia's the last) has its
/// boundaries moved to the quarter of an hour before.
package struct TimeZoneName: Sendable, Hashable, CustomStringConvertible {
    /// As the client wrote it, such as `Europe/Istanbul`.
    package let name: String

    /// The name by which PostgreSQL reads the zone: these four it takes for an abbreviation, a fixed offset. They stand
    /// for what `tzdata` links them to.
    var region: String {
        switch name {
        case "CET", "MET": "Europe/Brussels"
        case "EET": "Europe/Athens"
        case "WET": "Europe/Lisbon"
        default: name
        }
    }

    package var description: String { name }

    package static let utc = TimeZoneName(name: "UTC")

    // Parsed once, as a time's form is (`Timestamp`).
    private nonisolated(unsafe) static let form =
        /Etc\/GMT[+-]?[0-9]{1,2}|[A-Z][A-Za-z_]*(?:-[A-Za-z_]+)*(?:\/[A-Za-z_]+(?:-[A-Za-z_]+)*)+/
    private nonisolated(unsafe) static let localForm =
        /[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?)?/

    /// The zones of `tzdata` without a region. PostgreSQL takes other words of this form for abbreviations or POSIX
    /// rules.
    private static let words: Set<String> = [
        "CET", "CST6CDT", "Cuba", "EET", "EST", "EST5EDT", "Egypt", "Eire", "GB", "GB-Eire", "GMT", "GMT+0", "GMT-0",
        "GMT0",
        "Greenwich", "HST", "Hongkong", "Iceland", "Iran", "Israel", "Jamaica", "Japan", "Kwajalein", "Libya", "MET",
        "MST",
        "MST7MDT", "NZ", "NZ-CHAT", "Navajo", "PRC", "PST8PDT", "Poland", "Portugal", "ROC", "ROK", "Singapore",
        "Turkey",
        "UCT", "Universal", "W-SU", "WET", "Zulu",
    ]

    private init(name: String) {
        self.name = name
    }

    /// The zone called `name`.
    ///
    /// - Throws: ``AppError`` `.invalid` where there is none. PostgreSQL takes more for a zone than IANA does
    ///   (abbreviations, POSIX rules such as `X/Y+3`), and that is refused too.
    package static func require(_ name: String, _ connection: Connection) throws -> TimeZoneName {
        guard name != utc.name else { return utc }
        let unknown = AppError(.invalid, "The timezone is an IANA name, such as Europe/Istanbul, or UTC.")
        guard name.utf8.count <= 64, words.contains(name) || name.wholeMatch(of: Self.form) != nil else {
            throw unknown
        }
        let zone = TimeZoneName(name: name)
        do {
            _ = try connection.query("SELECT 'epoch'::timestamptz AT TIME ZONE \(zone.region)")
            return zone
        } catch let error as PostgresError where error.sqlState == "22023" {
            throw unknown
        }
    }

    /// Whether `text` has the form of a local date or time, as ``start(of:_:)`` takes it.
    package static func isLocalTime(_ text: String) -> Bool {
        text.wholeMatch(of: localForm) != nil && CalendarDate(String(text.prefix(10))) != nil
    }

    /// The moment at which the local day or time (`2026-11-01`, `2026-11-01T09:30`) begins: its first, where the clocks
    /// show it twice, and the end of the gap where they skip it.
    ///
    /// - Throws: ``AppError`` `.invalid` where it is none.
    package func start(of local: String, _ connection: Connection) throws -> Timestamp {
        let unreadable = AppError(.invalid, "A date is written like 2026-11-01, a local time like 2026-11-01T09:30.")
        guard Self.isLocalTime(local) else { throw unreadable }
        do {
            let rows = try connection.query(
                """
                SELECT \(microseconds: "i.instant")
                FROM (\(LocalTime.instants(of: "SELECT \(local)::timestamp AS local", in: self))) i
                """)
            guard let microseconds = try rows[0].decode(0, as: Int64?.self) else { throw unreadable }
            return Timestamp(microseconds: microseconds)
        } catch let error as PostgresError where error.sqlState == "22008" || error.sqlState == "22007" {
            throw unreadable
        }
    }

    /// The moments at which the local `days` begin, in their order.
    ///
    /// - Throws: ``PostgresError``.
    package func starts(of days: [CalendarDate], _ connection: Connection) throws -> [Timestamp] {
        guard self != .utc else { return days.map(\.start) }
        let locals: Query = "SELECT unnest(\(days.map(\.description))::text[])::timestamp AS local"
        let rows = try connection.query(
            """
            SELECT i.local::date::text, \(microseconds: "i.instant")
            FROM (\(LocalTime.instants(of: locals, in: self))) i
            """)
        let starts = Dictionary(
            try rows.map { try $0.decode(String.self, Int64.self) }, uniquingKeysWith: { first, _ in first })
        return try days.map { day in
            guard let start = starts[day.description] else { throw AppError(.invalid, "There is no day \(day).") }
            return Timestamp(microseconds: start)
        }
    }
}
