-- New logs in the gaps and after the top: LogTail.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE live_logs AS
SELECT l.id, l.id + r.shift, l.user_id, l.is_long
FROM unnest($1::bigint[], $2::bigint[]) AS g (after, through)
CROSS JOIN LATERAL metering.id_ranges(g.after, g.through) r
-- The limit makes the planner use the index, however large the table is.
CROSS JOIN LATERAL (
    SELECT l.id, l.user_id,
           coalesce(octet_length(l.error_message::text), 0)
               > 8192 AS is_long
    FROM public.api_logs l
    WHERE l.id > r.lower AND l.id <= r.upper 
    ORDER BY l.id LIMIT $3) l
ORDER BY 2 LIMIT $4;
EXECUTE live_logs (
    '{20000,20005}', -- $1
    '{20002,20006}', -- $2
    '10000', -- $3
    '10000' -- $4
);
DEALLOCATE live_logs;
