-- The order of users by requests: UserRanking.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE user_ranking_by_requests AS
WITH pending AS (
    SELECT f.* FROM (
        SELECT * FROM metering.event_facts($1::bigint, $2::bigint) f
        WHERE true
        -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
        OFFSET 0
    ) f
    WHERE f.occurred_at >= ('epoch'::timestamptz + $3::bigint * interval '1 microsecond')
      AND f.occurred_at < ('epoch'::timestamptz + $4::bigint * interval '1 microsecond')
      AND NOT f.is_self_reported
), used AS (
    SELECT s.user_id, s.requests, s.requests AS weight
    FROM unnest($5::integer[], $6::integer[]) AS p (days, first)
    JOIN metering.rollup_span s ON s.days = p.days AND s.first_day = '1970-01-01'::date + p.first
    UNION ALL
    SELECT t.user_id, 1, 1 FROM pending t
    UNION ALL
    SELECT t.user_id, $7::integer * t.requests, $8::integer * (t.requests)
    FROM metering.rollup_15m t
    WHERE t.quarter >= $9::integer AND t.quarter < $10::integer
      AND t.user_id <> 0
      AND t.dimension <> ALL(ARRAY(
    SELECT s.dimension FROM metering.rollup_dimension s WHERE s.is_self_reported))
    UNION ALL
    SELECT t.user_id, $11::integer * t.requests, $12::integer * (t.requests)
    FROM metering.rollup_15m t
    WHERE t.quarter >= $13::integer AND t.quarter < $14::integer
      AND t.user_id <> 0
      AND t.dimension <> ALL(ARRAY(
    SELECT s.dimension FROM metering.rollup_dimension s WHERE s.is_self_reported))
), weighed AS MATERIALIZED (
    -- A measure that stands there twice is added up once.
    SELECT user_id, sum(requests) AS weight
    FROM used
    GROUP BY 1
    HAVING sum(requests) > 0
), placed AS MATERIALIZED (
    SELECT w.*, true AS is_after FROM weighed w
)
SELECT user_id, weight::text, is_after, (SELECT count(*) FROM placed)
FROM (
    (SELECT * FROM placed WHERE NOT is_after)
    UNION ALL
    (SELECT * FROM placed WHERE is_after ORDER BY weight DESC, user_id LIMIT $15::integer)
) p
ORDER BY p.is_after, p.weight DESC, p.user_id;
EXECUTE user_ranking_by_requests (
    '20000', -- $1
    '9223372036854775807', -- $2
    '1795122000000000', -- $3
    '1795381200000000', -- $4
    '{1,2}', -- $5
    '{20777,20778}', -- $6
    '1', -- $7
    '1', -- $8
    '1994580', -- $9
    '1994592', -- $10
    '-1', -- $11
    '-1', -- $12
    '1994868', -- $13
    '1994880', -- $14
    '10' -- $15
);
DEALLOCATE user_ranking_by_requests;
