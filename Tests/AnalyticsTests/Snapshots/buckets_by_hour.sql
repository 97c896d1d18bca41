-- Where local hours begin in UTC: ReportRange.swift, LocalTime.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE buckets_by_hour AS
SELECT coalesce(array_agg(DISTINCT b.quarter ORDER BY b.quarter), '{}')
FROM (SELECT h.quarter
FROM (
    SELECT c.*, lag(c.hour) OVER w AS hour_before, lag(c.utc_offset) OVER w AS offset_before
    FROM (
        SELECT s.quarter, date_trunc('hour', s.local) AS hour, s.local - s.utc AS utc_offset
        FROM (
            -- By its last second: where the clocks change inside a quarter, the change is moved to its begin.
            SELECT q.quarter,
                   (metering.quarter_start(q.quarter) + interval '899 s') AT TIME ZONE $1 AS local,
                   (metering.quarter_start(q.quarter) + interval '899 s') AT TIME ZONE 'UTC' AS utc
            FROM generate_series($2::integer,
                                 $3::integer) AS q (quarter)
        ) s
    ) c
    WINDOW w AS (ORDER BY c.quarter)
) h
WHERE (h.hour, h.utc_offset) IS DISTINCT FROM (h.hour_before, h.offset_before)) b
WHERE b.quarter > $4 AND b.quarter < $5;
EXECUTE buckets_by_hour (
    'UTC', -- $1
    '1994580', -- $2
    '1994868', -- $3
    '1994580', -- $4
    '1994868' -- $5
);
DEALLOCATE buckets_by_hour;
