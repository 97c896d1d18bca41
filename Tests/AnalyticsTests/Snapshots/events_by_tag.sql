-- A breakdown of events: EventBreakdown.swift, UsageQuery.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE events_by_tag AS
WITH usage AS (
    SELECT u.* FROM (
        SELECT 1 AS bucket, 1 AS sign, t.tag AS key, e.model_group AS model, e.provider, e.status, e.plan,
               e.user_id, 1 AS requests, (e.cost IS NULL)::integer AS unpriced, e.input_tokens,
               e.output_tokens, e.cached_tokens, e.reasoning_tokens,
               coalesce(e.duration_ms, 0) AS duration_ms, coalesce(e.cost, 0) AS cost,
               coalesce(e.ledger_cost, least(round(coalesce(e.cost, 0), 6), 9999.999999))
                   AS ledger_cost,
               coalesce(e.flags @> '{self_reported}', false) AS is_self_reported
        FROM metering.events e
        LEFT JOIN LATERAL unnest(e.tags) WITH ORDINALITY AS t (tag, position)
            ON array_position(e.tags, t.tag) = t.position
        WHERE e.occurred_at >= ('epoch'::timestamptz + $1::bigint * interval '1 microsecond') AND e.occurred_at < ('epoch'::timestamptz + $2::bigint * interval '1 microsecond')
    ) u
    WHERE true AND u.model = ANY($3::text[]) AND u.provider = ANY($4::text[]) AND u.status = ANY($5::text[]) AND u.plan = ANY($6::text[]) AND u.user_id = $7
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
    WHERE t.position BETWEEN 1 AND $8::integer
    UNION ALL
    -- All others: those before the page, and those after it.
    SELECT t.bucket, least(t.position, $9::integer), NULL, count(DISTINCT t.position),
           max(t.weight)::text,
           greatest(least(sum(t.requests), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.unpriced), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.input_tokens), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.output_tokens), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.duration_ms), 9223372036854775807), -9223372036854775807)::bigint,
           greatest(least(sum(t.errors), 9223372036854775807), -9223372036854775807)::bigint, greatest(least(sum(t.rate_limited), 9223372036854775807), -9223372036854775807)::bigint,
           trim_scale(sum(t.cost)), trim_scale(sum(t.ledger_cost))
    FROM ranked t
    WHERE t.position NOT BETWEEN 1 AND $10::integer
    GROUP BY 1, 2
)
SELECT t.*, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8
FROM total t
ORDER BY t.rank, t.bucket;
EXECUTE events_by_tag (
    '1795122000000000', -- $1
    '1795381200000000', -- $2
    '{"gpt-4"}', -- $3
    '{"openai"}', -- $4
    '{"error","success"}', -- $5
    '{"pro"}', -- $6
    '7', -- $7
    '10', -- $8
    '11', -- $9
    '10' -- $10
);
DEALLOCATE events_by_tag;
