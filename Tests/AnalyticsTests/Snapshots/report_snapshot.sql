-- The state that a report is read in: ReportSnapshot.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE report_snapshot AS
SELECT event_log_id, other_log_id, commit_horizon, day_boundary,
CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
spans_through IS NOT DISTINCT FROM ARRAY[event_log_id, other_log_id, day_boundary], CASE WHEN now() >= '0001-01-01Z' AND now() <= '9999-12-31 23:59:59.999999Z'
     THEN (extract(epoch FROM now()) * 1000000)::bigint END,
       -- Mostly there are none: the worker rolls them up within a second or two. Without them a report needs
       -- half of its plan. Not EXISTS: the planner would expect many, and read the table from its begin.
       EXISTS (SELECT FROM metering.id_ranges(other_log_id, $1) r
               WHERE (SELECT max(l.id) FROM public.api_logs l WHERE l.id <= r.upper) > r.lower),
       -- A standby shows what its primary knows.
       metering.ids_began_again() AND NOT pg_is_in_recovery()
FROM metering.rollup_watermark;
EXECUTE report_snapshot (
    '9223372036854775807' -- $1
);
DEALLOCATE report_snapshot;
