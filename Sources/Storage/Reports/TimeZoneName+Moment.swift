package import Domain
package import Postgres

extension TimeZoneName {
    /// The first moment at which the clocks of the zone show `time`, such as `2026-11-26 10:00:00`. A time that they skip is
    /// what PostgreSQL takes it for.
    ///
    /// - Throws: ``AppError`` `.invalid` where it is no time.
    package func moment(at time: String, _ connection: Connection) throws -> Timestamp {
        do {
            // PostgreSQL takes the later of two. No clock was set back by more than a day since 1900.
            let rows = try connection.query(
                """
                SELECT \(microseconds: "coalesce(min(m.moment) FILTER (WHERE m.moment AT TIME ZONE t.zone = t.local), max(m.moment))")
                FROM (SELECT \(time)::timestamp AS local, \(name)::text AS zone) t
                CROSS JOIN LATERAL (
                    SELECT (t.local AT TIME ZONE t.zone) - i * interval '15 minutes' AS moment
                    FROM generate_series(0, 96) i) m
                """)
            return Timestamp(microseconds: try rows[0].decode(0))
        } catch let error as PostgresError where ["22007", "22008"].contains(error.sqlState) {
            throw AppError(.invalid, "A time is written like 2026-11-26T10:00:00.")
        }
    }
}
