-- A user's last logs: LaravelReports.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE recent_calls AS
SELECT l.id, l.user_id, coalesce(l.model, 'unknown'), greatest(least(coalesce(l.input_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint, greatest(least(coalesce(l.output_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint,
metering.plausible_cost(l.total_cost::numeric), greatest(least(coalesce(l.response_time_ms, 0), 9223372036854774784), -9223372036854774784)::bigint, coalesce(l.status, 'success'),
l.error_message, CASE WHEN (l.created_at AT TIME ZONE 'UTC') >= '0001-01-01Z' AND (l.created_at AT TIME ZONE 'UTC') <= '9999-12-31 23:59:59.999999Z'
     THEN (extract(epoch FROM (l.created_at AT TIME ZONE 'UTC')) * 1000000)::bigint END,
CASE WHEN (l.updated_at AT TIME ZONE 'UTC') >= '0001-01-01Z' AND (l.updated_at AT TIME ZONE 'UTC') <= '9999-12-31 23:59:59.999999Z'
     THEN (extract(epoch FROM (l.updated_at AT TIME ZONE 'UTC')) * 1000000)::bigint END
FROM public.api_logs l
WHERE l.user_id = $1
ORDER BY l.created_at DESC, l.id
LIMIT $2;
EXECUTE recent_calls (
    '7', -- $1
    '50' -- $2
);
DEALLOCATE recent_calls;
