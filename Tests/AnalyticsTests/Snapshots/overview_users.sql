-- The users of the operator's overview: UsageSummary.swift.
-- Tests/AnalyticsTests/SnapshotTests.swift writes and runs this file (docs/contributing.md, "Add a report").
SET plan_cache_mode = force_generic_plan;
PREPARE overview_users AS
SELECT coalesce(u.plan, ''),
       CASE WHEN u.id IN (SELECT metering.deleted_users()) THEN 'deleted' ELSE coalesce(u.status, '') END,
       count(*)
FROM public.users u
GROUP BY 1, 2
ORDER BY 1, 2;
EXECUTE overview_users;
DEALLOCATE overview_users;
