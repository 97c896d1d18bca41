import Domain
package import Postgres

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
