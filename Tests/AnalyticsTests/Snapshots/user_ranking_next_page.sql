-- The second page of users, while spans are stale: UserRanking.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE user_ranking_next_page AS
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
    SELECT t.user_id, t.requests, t.requests AS weight
    FROM metering.rollup_day t
    WHERE t.user_id <> 0 AND t.day >= '1970-01-01'::date + $5::integer
      AND t.day < '1970-01-01'::date + $6::integer
      AND t.dimension <> ALL(ARRAY(
    SELECT s.dimension FROM metering.rollup_dimension s WHERE s.is_self_reported))
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
    SELECT w.*, (w.weight < $15::numeric
    OR w.weight = $16::numeric AND w.user_id > $17::bigint) AS is_after FROM weighed w
)
SELECT user_id, weight::text, is_after, (SELECT count(*) FROM placed)
FROM (
    (SELECT * FROM placed WHERE NOT is_after)
    UNION ALL
    (SELECT * FROM placed WHERE is_after ORDER BY weight DESC, user_id LIMIT $18::integer)
) p
ORDER BY p.is_after, p.weight DESC, p.user_id;
EXECUTE user_ranking_next_page (
    '20000', -- $1
    '9223372036854775807', -- $2
    '1795122000000000', -- $3
    '1795381200000000', -- $4
    '20777', -- $5
    '20780', -- $6
    '1', -- $7
    '1', -- $8
    '1994580', -- $9
    '1994592', -- $10
    '-1', -- $11
    '-1', -- $12
    '1994868', -- $13
    '1994880', -- $14
    '1441', -- $15
    '1441', -- $16
    '8', -- $17
    '10' -- $18
);
DEALLOCATE user_ranking_next_page;
