-- Where local months begin in UTC: ReportRange.swift, LocalTime.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE buckets_by_month AS
SELECT coalesce(array_agg(DISTINCT b.quarter ORDER BY b.quarter), '{}')
FROM (SELECT metering.quarter_of(i.instant) AS quarter
FROM (SELECT o.local, CASE WHEN o.earlier = o.later THEN o.earlier ELSE coalesce(
           (SELECT min(c.instant) FROM (VALUES (o.earlier), (o.later)) AS c (instant)
            WHERE c.instant AT TIME ZONE $1 = o.local),
           -- It is skipped: the clocks went forward between these two.
           (SELECT min(c.instant)
            FROM generate_series(date_trunc('minute', o.later), o.earlier, interval '1 minute')
                 AS c (instant)
            WHERE c.instant AT TIME ZONE $2 >= o.local)) END AS instant
FROM (
    -- The moment by the offset before, and by the one after, a change of the clocks nearby.
    SELECT l.local,
           l.utc - ((l.utc - interval '16 hours') AT TIME ZONE $3 - (l.local - interval '16 hours')) AS earlier,
           l.utc - ((l.utc + interval '16 hours') AT TIME ZONE $4 - (l.local + interval '16 hours')) AS later
    FROM (SELECT x.local, x.local AT TIME ZONE 'UTC' AS utc FROM (SELECT generate_series(date_trunc($5, ('epoch'::timestamptz + $6::bigint * interval '1 microsecond') AT TIME ZONE $7),
                       ('epoch'::timestamptz + $8::bigint * interval '1 microsecond') AT TIME ZONE $9 + interval '1 day',
                       $10::interval) AS local) x) l
) o) i) b
WHERE b.quarter > $11 AND b.quarter < $12;
EXECUTE buckets_by_month (
    'UTC', -- $1
    'UTC', -- $2
    'UTC', -- $3
    'UTC', -- $4
    'month', -- $5
    '1795122000000000', -- $6
    'UTC', -- $7
    '1795381200000000', -- $8
    'UTC', -- $9
    '1 month', -- $10
    '1994580', -- $11
    '1994868' -- $12
);
DEALLOCATE buckets_by_month;
