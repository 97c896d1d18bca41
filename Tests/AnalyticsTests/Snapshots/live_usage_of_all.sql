-- The usage of all users today and in this month: LiveUsage.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE live_usage_of_all AS
WITH rollup AS (
    -- Days, each in the bucket that holds its middle.
    SELECT width_bucket(u.day - '1970-01-01'::date, $1::integer[]) AS bucket, 1 AS sign,
           u.dimension, u.user_id,
           u.requests, u.unpriced, u.input_tokens, u.output_tokens, u.cached_tokens, u.reasoning_tokens, u.duration_ms,
       metering.finite(u.cost) AS cost, metering.finite(u.ledger_cost) AS ledger_cost, u.histogram
    FROM metering.rollup_day u
    WHERE u.user_id = $2
      AND u.day >= '1970-01-01'::date + $3::integer
      AND u.day < '1970-01-01'::date + $4::integer
    UNION ALL
    -- The quarter hours of a day that a boundary cuts: out of the day's bucket, into their own.
    SELECT s.bucket, s.sign, u.dimension, u.user_id,
           requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, u.histogram
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
               sum(metering.finite(c.ledger_cost)) AS ledger_cost,
               coalesce(metering.joined(c.histogram), '{}') AS histogram
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
       metering.finite(u.cost) AS cost, metering.finite(u.ledger_cost) AS ledger_cost, u.histogram
    FROM metering.rollup_15m u
    WHERE u.user_id = $12
      AND u.quarter >= $13::integer
      AND u.quarter < $14::integer
), pending AS (
    SELECT f.* FROM (
        SELECT * FROM metering.event_facts($15::bigint, $16::bigint) f
        WHERE true
        -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
        OFFSET 0
    ) f
    WHERE f.occurred_at >= ('epoch'::timestamptz + $17::bigint * interval '1 microsecond')
      AND f.occurred_at < ('epoch'::timestamptz + $18::bigint * interval '1 microsecond')
      AND NOT f.is_self_reported
), usage AS MATERIALIZED (
    SELECT u.bucket, u.sign, d.status, NULL::text AS key,
           requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, u.histogram
    FROM rollup u JOIN metering.rollup_dimension d USING (dimension)
    WHERE NOT d.is_self_reported
    UNION ALL
    -- Added up at once: there may be 60,000 pending logs, and each step costs each of them.
    SELECT width_bucket(f.occurred_at, ARRAY(
               SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
               FROM unnest($19::integer[]) WITH ORDINALITY AS b (quarter, position)
               ORDER BY b.position)),
           1, f.status, NULL::text,
           count(*) AS requests,
           count(*) - count(f.cost) AS unpriced,
           greatest(least(sum(f.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
           greatest(least(sum(f.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
           greatest(least(sum(f.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
           greatest(least(sum(f.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
           greatest(least(sum(coalesce(f.duration_ms, 0)), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
           coalesce(sum(f.cost), 0) AS cost,
           sum(f.ledger_cost) AS ledger_cost,
           coalesce(array_agg((metering.bucket_of(f.duration_ms) << 40) + 1)
               FILTER (WHERE f.duration_ms IS NOT NULL)
           || array_agg(((metering.bucket_of(f.first_token_ms) + 2000) << 40) + 1)
               FILTER (WHERE f.first_token_ms IS NOT NULL), '{}') AS histogram
    FROM pending f
    GROUP BY 1, 3, 4
), keyed AS (
    SELECT u.bucket, u.key,
           greatest(least(sum(u.sign * u.requests), 9223372036854775807), -9223372036854775807)::bigint AS requests,
           greatest(least(sum(u.sign * u.unpriced), 9223372036854775807), -9223372036854775807)::bigint AS unpriced,
           greatest(least(sum(u.sign * u.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
           greatest(least(sum(u.sign * u.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
           greatest(least(sum(u.sign * u.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
           greatest(least(sum(u.sign * u.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
           greatest(least(sum(u.sign * u.duration_ms), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
           greatest(least(coalesce(sum(u.sign * u.requests) FILTER (WHERE u.status = 'error'), 0), 9223372036854775807), -9223372036854775807)::bigint AS errors,
           greatest(least(coalesce(sum(u.sign * u.requests) FILTER (WHERE u.status = 'rate_limited'), 0), 9223372036854775807), -9223372036854775807)::bigint
               AS rate_limited,
           sum(u.sign * u.cost) AS cost, sum(u.sign * u.ledger_cost) AS ledger_cost
    FROM usage u
    GROUP BY 1, 2
    -- Not what was only moved out of the range.
    HAVING sum(u.sign * u.requests) > 0
), element AS (
    SELECT e.bucket, e.key, e.element >> 40 AS latency,
           sum(e.sign * least(e.element & 1099511627775, 2147483647)::integer)
               AS count
    FROM (SELECT u.bucket, u.key, u.sign, unnest(u.histogram) AS element FROM usage u) e
    GROUP BY 1, 2, 3
), histogram AS (
    SELECT e.bucket, e.key, array_agg(e.latency) AS latencies, array_agg(e.count::bigint) AS counts
    FROM element e WHERE e.count > 0
    GROUP BY 1, 2
)
SELECT k.bucket, k.key, k.requests, k.unpriced, k.input_tokens, k.output_tokens, k.cached_tokens,
       k.reasoning_tokens, k.duration_ms, k.errors, k.rate_limited,
       trim_scale(k.cost), trim_scale(k.ledger_cost), h.latencies, h.counts
FROM keyed k
LEFT JOIN histogram h ON h.bucket = k.bucket AND h.key IS NOT DISTINCT FROM k.key;
EXECUTE live_usage_of_all (
    '{20777,20779,20780,20781}', -- $1
    '0', -- $2
    '20777', -- $3
    '20781', -- $4
    '{1994580,1994772,1994868}', -- $5
    '{1994592,1994784,1994880}', -- $6
    '{0,1,2}', -- $7
    '{1,2,3}', -- $8
    '0', -- $9
    '4', -- $10
    '{1994580,1994772,1994868,1994964}', -- $11
    '0', -- $12
    '1994924', -- $13
    '1994964', -- $14
    '20000', -- $15
    '9223372036854775807', -- $16
    '1795122000000000', -- $17
    '1795467600000000', -- $18
    '{1994580,1994772,1994868,1994964}' -- $19
);
DEALLOCATE live_usage_of_all;
