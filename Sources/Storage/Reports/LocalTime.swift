import Postgres

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
                        FROM generate_series(date_trunc('minute', o.later), o.earlier, interval '1 minute') AS c (instant)
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

    /// A query of the quarters of an hour in `quarters` at which a local hour begins, (quarter): where the clock's hour
    /// changes, or its offset does. So an hour that comes twice is two.
    static func hours(in quarters: Range<Int>, of zone: TimeZoneName) -> Query {
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
                    FROM generate_series(\(quarters.lowerBound)::integer, \(quarters.upperBound)::integer) AS q (quarter)
                ) s
            ) c
            WINDOW w AS (ORDER BY c.quarter)
        ) h
        WHERE (h.hour, h.utc_offset) IS DISTINCT FROM (h.hour_before, h.offset_before)
        """
    }
}
