-- Laravel's dashboard/usage: LaravelReports.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE laravel_chart AS
WITH rollup AS (
    -- Days, each in the bucket that holds its middle.
    SELECT width_bucket(u.day - '1970-01-01'::date, $1::integer[]) AS bucket, 1 AS sign,
           u.dimension, u.user_id,
           u.requests, u.unpriced, u.input_tokens, u.output_tokens, u.cached_tokens, u.reasoning_tokens, u.duration_ms,
       metering.finite(u.cost) AS cost, metering.finite(u.ledger_cost) AS ledger_cost
    FROM metering.rollup_day u
    WHERE u.user_id = $2
      AND u.day >= '1970-01-01'::date + $3::integer
      AND u.day < '1970-01-01'::date + $4::integer
    UNION ALL
    -- The quarter hours of a day that a boundary cuts: out of the day's bucket, into their own.
    SELECT s.bucket, s.sign, u.dimension, u.user_id,
           requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost
    FROM unnest($5::integer[],
                $6::integer[],
                $7::integer[], $8::integer[])
         AS m (start, stop, source, target)
    CROSS JOIN LATERAL (
        SELECT c.dimension, c.user_id,
               greatest(least(sum(c.requests), 9223372036854775807), -9223372036854775807)::bigint AS requests,
               greatest(least(sum(c.unpriced), 9223372036854775807), -9223372036854775807)::bigint AS unpriced,
               greatest(least(sum(c.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
               greatest(least(sum(c.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
               greatest(least(sum(c.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
               greatest(least(sum(c.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
               greatest(least(sum(c.duration_ms), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
               sum(metering.finite(c.cost)) AS cost,
               sum(metering.finite(c.ledger_cost)) AS ledger_cost
        FROM metering.rollup_15m c
        WHERE c.user_id = $9
          AND c.quarter >= m.start AND c.quarter < m.stop
        GROUP BY 1, 2
    ) u
    CROSS JOIN LATERAL (VALUES (m.source, -1), (m.target, 1)) AS s (bucket, sign)
    WHERE s.bucket > 0 AND s.bucket < $10::integer
    UNION ALL
    -- After the day boundary, and in short ranges.
    SELECT width_bucket(u.quarter, $11::integer[]), 1, u.dimension, u.user_id,
           u.requests, u.unpriced, u.input_tokens, u.output_tokens, u.cached_tokens, u.reasoning_tokens, u.duration_ms,
       metering.finite(u.cost) AS cost, metering.finite(u.ledger_cost) AS ledger_cost
    FROM metering.rollup_15m u
    WHERE u.user_id = $12
      AND u.quarter >= $13::integer
      AND u.quarter < $14::integer
), pending AS (
    SELECT f.* FROM (
        SELECT * FROM metering.event_facts($15::bigint, $16::bigint) f
        WHERE f.user_id = $17
        -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
        OFFSET 0
    ) f
    WHERE f.occurred_at >= ('epoch'::timestamptz + $18::bigint * interval '1 microsecond')
      AND f.occurred_at < ('epoch'::timestamptz + $19::bigint * interval '1 microsecond')
      AND true
), usage AS MATERIALIZED (
    SELECT u.bucket, u.sign, d.status, d.model AS key,
           requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost
    FROM rollup u JOIN metering.rollup_dimension d USING (dimension)
    WHERE true
    UNION ALL
    -- Added up at once: there may be 60,000 pending logs, and each step costs each of them.
    SELECT width_bucket(f.occurred_at, ARRAY(
               SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
               FROM unnest($20::integer[]) WITH ORDINALITY AS b (quarter, position)
               ORDER BY b.position)),
           1, f.status, f.model,
           count(*) AS requests,
           count(*) - count(f.cost) AS unpriced,
           greatest(least(sum(f.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
           greatest(least(sum(f.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
           greatest(least(sum(f.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
           greatest(least(sum(f.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
           greatest(least(sum(coalesce(f.duration_ms, 0)), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
           coalesce(sum(f.cost), 0) AS cost,
           sum(f.ledger_cost) AS ledger_cost
    FROM pending f
    GROUP BY 1, 3, 4
), used AS (
    SELECT b.quarter, metering.day_of(b.quarter) AS day, c.model, c.requests, c.tokens, c.cost
    FROM (
        SELECT u.bucket, u.key AS model, sum(u.sign * u.requests) AS requests,
               sum(u.sign * (u.input_tokens::numeric + u.output_tokens)) AS tokens,
               sum(u.sign * u.ledger_cost) AS cost
        FROM usage u
        GROUP BY 1, 2
    ) c JOIN unnest($21::integer[]) WITH ORDINALITY AS b (quarter, bucket) USING (bucket)
    UNION ALL
    SELECT NULL, l.created_at::date, coalesce(l.model, 'unknown'), 1,
           greatest(least(coalesce(l.input_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint::numeric + greatest(least(coalesce(l.output_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint,
           coalesce(metering.plausible_cost(l.total_cost::numeric), 0)
    FROM public.api_logs l
    WHERE l.user_id = $22 AND l.created_at >= ('epoch'::timestamptz + $23::bigint * interval '1 microsecond') AT TIME ZONE 'UTC'
      AND l.created_at < ('epoch'::timestamptz + $24::bigint * interval '1 microsecond') AT TIME ZONE 'UTC'
)
SELECT u.model IS NULL, to_char(u.day, 'Mon DD'), u.model, greatest(least(sum(u.tokens), 9223372036854775807), -9223372036854775807)::bigint,
       sum(u.requests)::bigint
FROM used u
WHERE u.quarter IS NULL OR u.quarter >= $25::integer
GROUP BY GROUPING SETS ((u.day), (u.model))
HAVING sum(u.requests) > 0
ORDER BY u.day, 5 DESC, u.model;
EXECUTE laravel_chart (
    '{20750,20751,20752,20753,20754,20755,20756,20757,20758,20759,20760,20761,20762,20763,20764,20765,20766,20767,20768,20769,20770,20771,20772,20773,20774,20775,20776,20777,20778,20779,20780,20781,20781}', -- $1
    '7', -- $2
    '20750', -- $3
    '20781', -- $4
    '{1992000}', -- $5
    '{1992048}', -- $6
    '{1}', -- $7
    '{0}', -- $8
    '7', -- $9
    '33', -- $10
    '{1992048,1992096,1992192,1992288,1992384,1992480,1992576,1992672,1992768,1992864,1992960,1993056,1993152,1993248,1993344,1993440,1993536,1993632,1993728,1993824,1993920,1994016,1994112,1994208,1994304,1994400,1994496,1994592,1994688,1994784,1994880,1994976,281404032}', -- $11
    '7', -- $12
    '1994924', -- $13
    '281404032', -- $14
    '20000', -- $15
    '9223372036854775807', -- $16
    '7', -- $17
    '1792843200000000', -- $18
    '253263628800000000', -- $19
    '{1992048,1992096,1992192,1992288,1992384,1992480,1992576,1992672,1992768,1992864,1992960,1993056,1993152,1993248,1993344,1993440,1993536,1993632,1993728,1993824,1993920,1994016,1994112,1994208,1994304,1994400,1994496,1994592,1994688,1994784,1994880,1994976,281404032}', -- $20
    '{1992048,1992096,1992192,1992288,1992384,1992480,1992576,1992672,1992768,1992864,1992960,1993056,1993152,1993248,1993344,1993440,1993536,1993632,1993728,1993824,1993920,1994016,1994112,1994208,1994304,1994400,1994496,1994592,1994688,1994784,1994880,1994976,281404032}', -- $21
    '7', -- $22
    '1792843200000000', -- $23
    '1792843200000000', -- $24
    '1992048' -- $25
);
DEALLOCATE laravel_chart;
