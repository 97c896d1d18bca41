import Domain
import Postgres

/// How many rows of a user there are on each UTC day, from the sums: pages and their number need no scan of the rows.
struct LogDays {
    /// Newest first.
    private let days: [(day: CalendarDate, rows: Int)]

    var total: Int { days.reduce(0) { $0 + $1.rows } }

    /// The days on which `user` has rows of these models and statuses, `nil` for all, between two days.
    ///
    /// Days whose rows retention has deleted are counted in `api_logs` itself, where next to nothing is left of them.
    /// In the caller's snapshot, so that it agrees with the rows.
    init(
        of user: Int64, models: [String]?, statuses: [String]?, from: CalendarDate?, through: CalendarDate?,
        _ connection: Connection
    ) throws {
        let cursor = try UsageCursor.read(connection)
        let dimension = Self.condition("d.model", "d.status", models, statuses)
        let fact = Self.condition("f.model", "f.status", models, statuses)
        let rows = try connection.query(
            """
            WITH counted AS (
                SELECT u.day, u.requests
                FROM metering.usage_days u JOIN metering.usage_dimensions d USING (dimension)
                WHERE u.user_id = \(user) AND \(dimension)
                UNION ALL
                SELECT metering.day_of(u.quarter), u.requests
                FROM metering.usage_quarters u JOIN metering.usage_dimensions d USING (dimension)
                WHERE u.user_id = \(user) AND u.quarter >= \(cursor.daysBefore)::integer AND \(dimension)
                UNION ALL
                SELECT metering.day_of(metering.quarter_of(f.occurred_at)), 1
                FROM \(UsageKind.events.facts(after: cursor.events, through: .max)) f
                WHERE f.user_id = \(user) AND \(fact)
                UNION ALL
                SELECT metering.day_of(metering.quarter_of(f.occurred_at)), 1
                FROM \(UsageKind.others.facts(after: cursor.others, through: .max)) f
                WHERE f.user_id = \(user) AND \(fact)
            ), border AS (
                SELECT CASE WHEN isfinite(sealed_before) THEN ((sealed_before AT TIME ZONE 'UTC') + interval '1 day')::date
                            ELSE '-infinity' END AS day
                FROM metering.usage_cursor
            ), kept AS (
                SELECT c.day, c.requests FROM counted c WHERE c.day >= (SELECT day FROM border)
                UNION ALL
                SELECT f.created_at::date, 1 FROM public.api_logs f
                WHERE f.user_id = \(user) AND f.created_at < (SELECT day FROM border) AND \(fact)
            )
            SELECT k.day - '1970-01-01'::date, sum(k.requests)::bigint
            FROM kept k
            WHERE k.day >= coalesce('1970-01-01'::date + \(from.map { Int($0.daysSince1970) })::integer, '-infinity')
              AND k.day <= coalesce('1970-01-01'::date + \(through.map { Int($0.daysSince1970) })::integer, 'infinity')
            GROUP BY 1 ORDER BY 1 DESC
            """)
        days = try rows.map { (CalendarDate(daysSince1970: try $0.decode(0)), try $0.decode(1)) }
    }

    /// Where the row behind the first `offset` stands: how many rows of its day are before it, and that day.
    ///
    /// `nil` where rows without a time, which stand first but are counted with 1970, make it unknown.
    func position(of offset: Int) -> (day: CalendarDate, rowsBefore: Int)? {
        guard days.last?.day.daysSince1970 != 0 else { return nil }
        var rest = offset
        for day in days {
            if rest < day.rows { return (day.day, rest) }
            rest -= day.rows
        }
        return nil
    }

    private static func condition(
        _ model: String, _ status: String, _ models: [String]?, _ statuses: [String]?
    ) -> Query {
        let conditions: [Query?] = [
            models.map { "\(unsafeSQL: model) = ANY(\($0)::text[])" },
            statuses.map { "\(unsafeSQL: status) = ANY(\($0)::text[])" },
        ]
        return conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
    }
}
