-- A summary of some models, providers, statuses and plans: UsageQuery.swift, ReportFragments.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE summary_of_part AS
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
        WHERE f.user_id = $17
        UNION ALL
        SELECT * FROM (
            SELECT * FROM metering.log_facts($18::bigint, $19::bigint)
            OFFSET 0
        ) f
        WHERE f.user_id = $20
        -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
        OFFSET 0
    ) f
    WHERE f.occurred_at >= ('epoch'::timestamptz + $21::bigint * interval '1 microsecond')
      AND f.occurred_at < ('epoch'::timestamptz + $22::bigint * interval '1 microsecond')
      AND true AND f.model = ANY($23::text[]) AND f.provider = ANY($24::text[]) AND f.status = ANY($25::text[]) AND f.plan = ANY($26::text[])
), usage AS MATERIALIZED (
    SELECT u.bucket, u.sign, d.status, NULL::text AS key,
           requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, u.histogram
    FROM rollup u JOIN metering.rollup_dimension d USING (dimension)
    WHERE true AND d.model = ANY($27::text[]) AND d.provider = ANY($28::text[]) AND d.status = ANY($29::text[]) AND d.plan = ANY($30::text[])
    UNION ALL
    -- Added up at once: there may be 60,000 pending logs, and each step costs each of them.
    SELECT width_bucket(f.occurred_at, ARRAY(
               SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
               FROM unnest($31::integer[]) WITH ORDINALITY AS b (quarter, position)
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
), weighed AS (
    SELECT t.*, sum(t.requests) OVER (PARTITION BY t.key) AS weight FROM keyed t
), ranked AS (
    SELECT t.*, dense_rank() OVER (ORDER BY t.weight DESC, t.key) AS position FROM weighed t
), total AS (
    SELECT t.bucket, t.position AS rank, t.key, 1::bigint AS groups, t.weight::text,
           t.requests, t.unpriced, t.input_tokens, t.output_tokens, t.cached_tokens, t.reasoning_tokens,
           t.duration_ms, t.errors, t.rate_limited, trim_scale(t.cost), trim_scale(t.ledger_cost)
    FROM ranked t
    WHERE t.position BETWEEN 1 AND $32::integer
    UNION ALL
    -- All others: those before the page, and those after it.
    SELECT t.bucket, least(t.position, $33::integer), NULL, count(DISTINCT t.position),
           max(t.weight)::text,
           greatest(least(sum(t.requests), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.unpriced), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.input_tokens), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.output_tokens), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.duration_ms), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.errors), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.rate_limited), 9223372036854775807), -9223372036854775807)::bigint,
           trim_scale(sum(t.cost)), trim_scale(sum(t.ledger_cost))
    FROM ranked t
    WHERE t.position NOT BETWEEN 1 AND $34::integer
    GROUP BY 1, 2
), element AS (
    SELECT e.bucket, e.key, e.element >> 40 AS latency,
           sum(e.sign * least(e.element & 1099511627775, 2147483647)::integer)
               AS count
    FROM (SELECT u.bucket, u.key, u.sign, unnest(u.histogram) AS element FROM usage u) e
    GROUP BY 1, 2, 3
), ordered AS (
    -- How large a part of the requests took so long or shorter.
    SELECT e.bucket, e.key, e.latency, e.latency >= 2000 AS is_first_token,
           -- Exact up to 2^53 requests, and much faster than numeric.
           sum(e.count::float8)
               OVER (PARTITION BY e.bucket, e.key, e.latency >= 2000 ORDER BY e.latency
                     ROWS UNBOUNDED PRECEDING)
           / sum(e.count::float8) OVER (PARTITION BY e.bucket, e.key, e.latency >= 2000)
               AS part
    FROM element e WHERE e.count > 0
), latency AS (
    SELECT o.bucket, o.key, metering.bucket_middle(min(o.latency) FILTER (WHERE NOT o.is_first_token AND o.part >= 0.50)) AS duration_50,
           metering.bucket_middle(min(o.latency) FILTER (WHERE NOT o.is_first_token AND o.part >= 0.95)) AS duration_95,
           metering.bucket_middle(min(o.latency) FILTER (WHERE NOT o.is_first_token AND o.part >= 0.99)) AS duration_99,
           metering.bucket_middle(min(o.latency) FILTER (WHERE o.is_first_token AND o.part >= 0.50) - 2000) AS first_token_50,
           metering.bucket_middle(min(o.latency) FILTER (WHERE o.is_first_token AND o.part >= 0.95) - 2000) AS first_token_95,
           metering.bucket_middle(min(o.latency) FILTER (WHERE o.is_first_token AND o.part >= 0.99) - 2000) AS first_token_99
    FROM ordered o
    GROUP BY 1, 2
)
SELECT t.*, l.duration_50, l.duration_95, l.duration_99, l.first_token_50, l.first_token_95, l.first_token_99
FROM total t
LEFT JOIN latency l
    ON l.bucket = t.bucket AND l.key IS NOT DISTINCT FROM t.key AND t.rank BETWEEN 1 AND $35::integer
ORDER BY t.rank, t.bucket;
EXECUTE summary_of_part (
    '{20777,20778,20779,20780}', -- $1
    '7', -- $2
    '20777', -- $3
    '20780', -- $4
    '{1994580,1994676,1994772,1994868}', -- $5
    '{1994592,1994688,1994784,1994880}', -- $6
    '{0,1,2,3}', -- $7
    '{1,2,3,4}', -- $8
    '7', -- $9
    '4', -- $10
    '{1994580,1994676,1994772,1994868}', -- $11
    '7', -- $12
    '1994868', -- $13
    '1994868', -- $14
    '20000', -- $15
    '9223372036854775807', -- $16
    '7', -- $17
    '19000', -- $18
    '9223372036854775807', -- $19
    '7', -- $20
    '1795122000000000', -- $21
    '1795381200000000', -- $22
    '{"gpt-4"}', -- $23
    '{"openai"}', -- $24
    '{"error","success"}', -- $25
    '{"pro"}', -- $26
    '{"gpt-4"}', -- $27
    '{"openai"}', -- $28
    '{"error","success"}', -- $29
    '{"pro"}', -- $30
    '{1994580,1994676,1994772,1994868}', -- $31
    '1', -- $32
    '2', -- $33
    '1', -- $34
    '1' -- $35
);
DEALLOCATE summary_of_part;
