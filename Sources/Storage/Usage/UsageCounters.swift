import Postgres

/// What the counters of `metering.quota_usage` must be: made from the raw rows, as ingest and the fold count them.
///
/// Budgets were first counted in the month of the migration that brought them, and not before.
enum UsageCounters {
    /// The migration that brought `quota_usage.cost`.
    private static let budgetMigration = 11

    /// The first day, `since`, of which costs are counted.
    static let budgetedSince: Query = """
        SELECT date_trunc('month', min(applied_at) AT TIME ZONE 'UTC')::date AS since
        FROM metering.schema_migrations WHERE version = \(budgetMigration)
        """

    /// CTE `difference` of (user_id, period, window_start, and what each counter lacks), of the windows that touch `range`.
    ///
    /// A counter is what is in quota_usage and in the deltas that are not folded yet (`pending_`). Windows before the
    /// seal, and users whom Laravel has deleted, are left out: their raw rows are gone.
    static func difference(_ range: UsageRange, _ cursor: UsageCursor) -> Query {
        let range = range.unsealed(cursor)
        let rows = range.wholeMonths
        let people: Query = "user_id IN (SELECT id FROM public.users) AND \(range.contains(user: "user_id"))"
        return """
            installed AS (
                SELECT counted_log_id, (counted_at AT TIME ZONE 'UTC')::date AS counted_day FROM metering.installation
            ), budgeted AS (
                \(budgetedSince)
            ), contribution AS (
                SELECT user_id, (occurred_at AT TIME ZONE 'UTC')::date AS day, quota_tokens AS tokens,
                       quota_requests::bigint AS requests, coalesce(cost, 0) AS cost, false AS is_seed
                FROM metering.events
                WHERE quota_requests > 0 AND \(rows.isNear(key: "event_key")) AND \(people)
                UNION ALL
                SELECT user_id, (occurred_at AT TIME ZONE 'UTC')::date,
                       greatest(input_tokens, 0)::numeric + greatest(output_tokens, 0),
                       1, coalesce(cost, 0), log_id <= (SELECT counted_log_id FROM installed)
                FROM (\(rows.facts(of: .others, through: cursor.others))) f
                WHERE status <> 'rate_limited' AND \(people)
            ), expected AS (
                SELECT c.user_id, w.period, w.window_start, sum(c.tokens) AS tokens, sum(c.requests) AS requests,
                       sum(c.cost) FILTER (WHERE NOT c.is_seed) AS cost
                FROM contribution c, installed i,
                     LATERAL (VALUES ('daily', c.day, i.counted_day),
                                     ('monthly', date_trunc('month', c.day::timestamp)::date,
                                      date_trunc('month', i.counted_day::timestamp)::date)
                     ) AS w (period, window_start, counted_window)
                WHERE NOT c.is_seed OR w.window_start = w.counted_window
                GROUP BY 1, 2, 3
            ), actual AS (
                SELECT user_id, period, window_start, sum(tokens) AS tokens, sum(requests) AS requests, sum(cost) AS cost,
                       sum(tokens) FILTER (WHERE is_pending) AS pending_tokens,
                       sum(requests) FILTER (WHERE is_pending) AS pending_requests,
                       sum(cost) FILTER (WHERE is_pending) AS pending_cost
                FROM (
                    SELECT user_id, period, window_start, tokens, requests, cost, false AS is_pending
                    FROM metering.quota_usage
                    UNION ALL
                    SELECT d.user_id, w.period, w.window_start, d.tokens, d.requests, metering.finite(d.cost), true
                    FROM metering.quota_deltas q,
                         LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests, q.costs)
                             AS d (user_id, day, tokens, requests, cost),
                         LATERAL (VALUES ('daily', d.day), ('monthly', date_trunc('month', d.day::timestamp)::date)
                         ) AS w (period, window_start)
                ) u
                WHERE \(people)
                GROUP BY 1, 2, 3
            ), compared AS (
                SELECT user_id, period, window_start,
                       least(coalesce(e.tokens, 0), 9223372036854775807) AS expected_tokens,
                       coalesce(e.requests, 0) AS expected_requests,
                       CASE WHEN window_start >= b.since THEN coalesce(e.cost, 0) ELSE metering.finite(a.cost) END
                           AS expected_cost,
                       coalesce(a.pending_tokens, 0) AS pending_tokens,
                       coalesce(a.pending_requests, 0) AS pending_requests,
                       coalesce(a.pending_cost, 0) AS pending_cost,
                       least(coalesce(a.tokens, 0), 9223372036854775807) AS tokens, coalesce(a.requests, 0) AS requests,
                       coalesce(a.cost, 0) AS cost
                FROM (expected e FULL JOIN actual a USING (user_id, period, window_start)) CROSS JOIN budgeted b
                WHERE \(touches(range, sealedBefore: cursor.sealedBefore)) AND \(isProvable(cursor))
            ), difference AS (
                SELECT * FROM compared
                WHERE (expected_tokens, expected_requests, expected_cost) <> (tokens, requests, cost)
            )
            """
    }

    /// Whether no row of the window was removed when the ids began again: of the user's rows without an event, that is.
    private static func isProvable(_ cursor: UsageCursor) -> Query {
        guard cursor.logsSealedBefore > UsageRange.allQuarters.lowerBound else { return "true" }
        return """
            NOT EXISTS (
                SELECT FROM metering.usage_quarters s
                WHERE s.user_id = coalesce(e.user_id, a.user_id) AND s.quarter < \(cursor.logsSealedBefore)
                  AND s.quarter >= metering.quarter_of(window_start::timestamp AT TIME ZONE 'UTC')
                  AND NOT \(UsageDimensions.areOfEvents("s.dimension")))
            """
    }

    /// Whether a window shares a day with the range and begins behind the seal.
    private static func touches(_ range: UsageRange, sealedBefore: Int) -> Query {
        let end: Query =
            "(window_start + CASE period WHEN 'daily' THEN interval '1 day' ELSE interval '1 month' END)::date"
        return """
            \(UsageRange(quarters: sealedBefore..<Int(Int32.max)).contains(day: "window_start"))
            AND \(range.overlaps(from: "window_start", to: end))
            """
    }
}
