-- The order of users by the cost of one model: UserRanking.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE user_ranking_of_part AS
WITH pending AS (
    SELECT f.* FROM (
        SELECT * FROM metering.event_facts($1::bigint, $2::bigint) f
        WHERE true
        -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
        OFFSET 0
    ) f
    WHERE f.occurred_at >= ('epoch'::timestamptz + $3::bigint * interval '1 microsecond')
      AND f.occurred_at < ('epoch'::timestamptz + $4::bigint * interval '1 microsecond')
      AND NOT f.is_self_reported AND f.model = ANY($5::text[])
), used AS (
    SELECT t.user_id, t.requests, t.cost AS weight
    FROM metering.rollup_day t
    WHERE t.user_id <> 0 AND t.day >= '1970-01-01'::date + $6::integer
      AND t.day < '1970-01-01'::date + $7::integer
      AND t.dimension = ANY(ARRAY(
          SELECT d.dimension FROM metering.rollup_dimension d
          WHERE NOT d.is_self_reported AND d.model = ANY($8::text[])))
    UNION ALL
    SELECT t.user_id, 1, coalesce(t.cost, 0) FROM pending t
    UNION ALL
    SELECT t.user_id, $9::integer * t.requests, $10::integer * (t.cost)
    FROM metering.rollup_15m t
    WHERE t.quarter >= $11::integer AND t.quarter < $12::integer
      AND t.user_id <> 0
      AND t.dimension = ANY(ARRAY(
          SELECT d.dimension FROM metering.rollup_dimension d
          WHERE NOT d.is_self_reported AND d.model = ANY($13::text[])))
    UNION ALL
    SELECT t.user_id, $14::integer * t.requests, $15::integer * (t.cost)
    FROM metering.rollup_15m t
    WHERE t.quarter >= $16::integer AND t.quarter < $17::integer
      AND t.user_id <> 0
      AND t.dimension = ANY(ARRAY(
          SELECT d.dimension FROM metering.rollup_dimension d
          WHERE NOT d.is_self_reported AND d.model = ANY($18::text[])))
), weighed AS MATERIALIZED (
    -- A measure that stands there twice is added up once.
    SELECT user_id, sum(weight) AS weight
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
    (SELECT * FROM placed WHERE is_after ORDER BY weight DESC, user_id LIMIT $19::integer)
) p
ORDER BY p.is_after, p.weight DESC, p.user_id;
EXECUTE user_ranking_of_part (
    '20000', -- $1
    '9223372036854775807', -- $2
    '1795122000000000', -- $3
    '1795381200000000', -- $4
    '{"gpt-4"}', -- $5
    '20777', -- $6
    '20780', -- $7
    '{"gpt-4"}', -- $8
    '1', -- $9
    '1', -- $10
    '1994580', -- $11
    '1994592', -- $12
    '{"gpt-4"}', -- $13
    '-1', -- $14
    '-1', -- $15
    '1994868', -- $16
    '1994880', -- $17
    '{"gpt-4"}', -- $18
    '10' -- $19
);
DEALLOCATE user_ranking_of_part;
