package import Domain
package import Postgres

/// A time zone that PostgreSQL knows: it decides where a local day begins, here and in every query beside ours.
///
/// A zone whose offset is no multiple of 15 minutes (none today; some were before 1972, Liberia's the last) has its boundaries
/// moved to the quarter of an hour before.
package struct TimeZoneName: Sendable, Hashable, CustomStringConvertible {
    /// As the client wrote it, such as `Europe/Istanbul`.
    package let name: String

    package var description: String { name }

    package static let utc = TimeZoneName(name: "UTC")

    // Parsed once, as a time's form is (`Timestamp`).
    private nonisolated(unsafe) static let form =
        /GMT|Etc\/GMT[+-]?[0-9]{1,2}|[A-Z][A-Za-z_]*(?:-[A-Za-z_]+)*(?:\/[A-Za-z_]+(?:-[A-Za-z_]+)*)+/
    private nonisolated(unsafe) static let dateForm = /[0-9]{4}-[0-9]{2}-[0-9]{2}/

    private init(name: String) {
        self.name = name
    }

    /// The zone called `name`.
    ///
    /// - Throws: ``AppError`` `.invalid` where there is none. PostgreSQL takes more for a zone than IANA does (abbreviations,
    ///   POSIX rules such as `X/Y+3`), and that is refused too.
    package static func require(_ name: String, _ connection: Connection) throws -> TimeZoneName {
        guard name != utc.name else { return utc }
        let unknown = AppError(.invalid, "The timezone is an IANA name, such as Europe/Istanbul, or UTC.")
        guard name.utf8.count <= 64, name.wholeMatch(of: Self.form) != nil else { throw unknown }
        do {
            _ = try connection.query("SELECT 'epoch'::timestamptz AT TIME ZONE \(name)")
            return TimeZoneName(name: name)
        } catch let error as PostgresError where error.sqlState == "22023" {
            throw unknown
        }
    }

    /// The moment at which the local day `date` (`2026-11-01`) begins.
    ///
    /// - Throws: ``AppError`` `.invalid` where it is no date.
    package func start(of date: String, _ connection: Connection) throws -> Timestamp {
        let unreadable = AppError(.invalid, "A date is written like 2026-11-01.")
        guard date.wholeMatch(of: Self.dateForm) != nil else { throw unreadable }
        do {
            let rows = try connection.query(
                "SELECT \(microseconds: "(d.date::timestamp AT TIME ZONE d.zone)") FROM (SELECT \(date) AS date, \(name) AS zone) d"
            )
            return Timestamp(microseconds: try rows[0].decode(0))
        } catch let error as PostgresError where error.sqlState == "22008" || error.sqlState == "22007" {
            throw unreadable
        }
    }
}
