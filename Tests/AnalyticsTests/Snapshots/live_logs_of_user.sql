-- The logs that a reader has missed: LogTail.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE live_logs_of_user AS
SELECT l.id, l.id + r.shift, l.user_id, l.is_long
FROM unnest($1::bigint[], $2::bigint[]) AS g (after, through)
CROSS JOIN LATERAL metering.id_ranges(g.after, g.through) r
-- The limit makes the planner use the index, however large the table is.
CROSS JOIN LATERAL (
    SELECT l.id, l.user_id,
           coalesce(octet_length(l.error_message::text), 0)
               > 8192 AS is_long
    FROM public.api_logs l
    WHERE l.id > r.lower AND l.id <= r.upper AND l.user_id = $3
    ORDER BY l.id LIMIT $4) l
ORDER BY 2 LIMIT $5;
EXECUTE live_logs_of_user (
    '{20000,20005}', -- $1
    '{20002,20006}', -- $2
    '7', -- $3
    '1001', -- $4
    '1001' -- $5
);
DEALLOCATE live_logs_of_user;
