-- What new logs add: LiveUsage.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE live_growth AS
SELECT t.user_id, t.quarter, t.is_self_reported, t.status, t.requests, t.unpriced, t.input_tokens,
       t.output_tokens, t.cached_tokens, t.reasoning_tokens, t.duration_ms,
       trim_scale(t.cost), trim_scale(t.ledger_cost), t.histogram
FROM (
    SELECT f.user_id, metering.quarter_of(f.occurred_at) AS quarter, f.is_self_reported, f.status,
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
    -- OFFSET 0: else the planner reads all events of the users, and looks for their runs.
    FROM (
        SELECT f.* FROM unnest($1::bigint[], $2::bigint[]) AS g (after, through)
        CROSS JOIN LATERAL (SELECT * FROM metering.event_facts(g.after, g.through) OFFSET 0) f
        UNION ALL
        SELECT f.* FROM unnest($3::bigint[], $4::bigint[]) AS g (after, through)
        CROSS JOIN LATERAL (SELECT * FROM metering.log_facts(g.after, g.through) OFFSET 0) f
    ) f
    WHERE f.user_id = ANY($5::bigint[])
    GROUP BY 1, 2, 3, 4
) t;
EXECUTE live_growth (
    '{20000,20005}', -- $1
    '{20002,20006}', -- $2
    '{20000,20005}', -- $3
    '{20002,20006}', -- $4
    '{7,8}' -- $5
);
DEALLOCATE live_growth;
