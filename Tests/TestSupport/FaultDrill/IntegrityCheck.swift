package import Postgres

/// One property of the database after a load, as a query for everything that violates it.
package struct IntegrityCheck: Sendable {
    /// What an offender is.
    package let name: String
    /// How long it may take until there is none.
    package let grace: Duration
    /// One text column, a row for each offender.
    package let offenders: Query

    private init(name: String, within grace: Duration = .zero, offenders: Query) {
        self.name = name
        self.grace = grace
        self.offenders = offenders
    }

    /// Nothing acknowledged is lost, nothing is stored twice, and a row, its facts and its contribution to the counters
    /// are there together.
    package static let afterLoad = [
        IntegrityCheck(
            name: "acknowledged events without a fact",
            offenders: """
                SELECT x.name FROM drill.expected x
                WHERE x.reason IS NULL AND NOT EXISTS (SELECT FROM metering.events e WHERE e.model_group = x.name)
                """),
        IntegrityCheck(
            name: "events with more than one fact",
            offenders: "SELECT e.model_group FROM metering.events e GROUP BY 1 HAVING count(*) > 1"),
        IntegrityCheck(
            name: "events with more than one row of api_logs",
            offenders: "SELECT l.model FROM public.api_logs l GROUP BY 1 HAVING count(*) > 1"),
        IntegrityCheck(
            name: "facts that are not what was sent",
            offenders: """
                SELECT e.model_group
                FROM metering.events e LEFT JOIN drill.expected x ON x.name = e.model_group AND x.reason IS NULL
                WHERE (e.user_id, e.quota_tokens, e.quota_requests) IS DISTINCT FROM (x.user_id, x.tokens, x.requests)
                """),
        IntegrityCheck(
            name: "facts under another log_id than was answered",
            offenders: """
                SELECT e.model_group FROM metering.events e JOIN drill.expected x ON x.name = e.model_group
                WHERE e.api_log_id IS DISTINCT FROM x.log_id
                """),
        IntegrityCheck(
            name: "facts without their row of api_logs",
            offenders: """
                SELECT e.model_group
                FROM metering.events e
                LEFT JOIN public.api_logs l
                    ON (l.id, l.user_id, l.model) = (e.api_log_id, e.user_id, e.model_group)
                WHERE l.id IS NULL
                """),
        IntegrityCheck(
            name: "rows of api_logs without a fact",
            offenders: """
                SELECT l.model FROM public.api_logs l
                WHERE NOT EXISTS (SELECT FROM metering.events e WHERE e.api_log_id = l.id)
                """),
        IntegrityCheck(
            name: "unstorable events that are not in quarantine exactly once",
            offenders: """
                SELECT x.name
                FROM drill.expected x LEFT JOIN metering.quarantine q ON q.event->>'model' = x.name
                WHERE x.reason IS NOT NULL
                GROUP BY x.name, x.reason
                HAVING count(q.id) <> 1 OR bool_or(q.reason <> x.reason OR q.resolved_at IS NOT NULL)
                """),
        IntegrityCheck(
            name: "entries in quarantine that should be rows",
            offenders: """
                SELECT q.reason || ' ' || coalesce(q.event->>'model', q.detail) FROM metering.quarantine q
                WHERE NOT EXISTS (
                    SELECT FROM drill.expected x WHERE x.reason IS NOT NULL AND x.name = q.event->>'model')
                """),
        counters,
    ]

    /// The counters of every user and window are the sum of the events, counted or not.
    package static let counters = IntegrityCheck(
        name: "counters that are not the sum of the facts",
        offenders: """
            WITH truth AS (\(truth)), counted AS (
                SELECT c.user_id, c.period, c.window_start, sum(c.tokens) AS tokens, sum(c.requests) AS requests
                FROM (
                    SELECT q.user_id, q.period, q.window_start, q.tokens, q.requests FROM metering.quota_usage q
                    UNION ALL
                    SELECT d.user_id, w.period, w.window_start, d.tokens, d.requests
                    FROM metering.quota_deltas t
                    CROSS JOIN LATERAL unnest(t.user_ids, t.days, t.tokens, t.requests)
                        AS d (user_id, day, tokens, requests)
                    CROSS JOIN LATERAL (
                        VALUES ('daily', d.day), ('monthly', date_trunc('month', d.day::timestamp)::date)
                    ) AS w (period, window_start)
                ) c
                GROUP BY 1, 2, 3
            )
            SELECT concat_ws(' ', 'user', user_id, period, window_start)
            FROM truth t FULL JOIN counted c USING (user_id, period, window_start)
            WHERE (t.tokens, t.requests) IS DISTINCT FROM (c.tokens, c.requests)
            """)

    /// What Laravel reads, right after the load.
    package static let projection = IntegrityCheck(
        name: "rows of rate_limits that are not the current windows' truth", within: .seconds(2),
        offenders: """
            WITH truth AS (\(truth)), bound (period, window_start, reset_at) AS (
                SELECT w.period, date_trunc(w.unit, n.utc)::date, date_trunc(w.unit, n.utc) + w.length
                FROM (SELECT now() AT TIME ZONE 'UTC' AS utc) n,
                     (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                     AS w (period, unit, length)
            )
            SELECT concat_ws(' ', 'user', t.user_id, t.period)
            FROM truth t JOIN bound b USING (period, window_start)
            LEFT JOIN public.rate_limits r ON r.user_id = t.user_id AND r.period = t.period
            WHERE (r.used_tokens, r.used_requests, r.reset_at) IS DISTINCT FROM
                  (least(t.tokens, 2147483647), least(t.requests, 2147483647), b.reset_at)
            """)

    /// While the services run and nobody sends.
    package static let openTransactions = IntegrityCheck(
        name: "sessions left in a transaction", within: .seconds(5),
        offenders: """
            SELECT concat_ws(' ', a.application_name, a.pid) FROM pg_stat_activity a
            WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
            """)

    /// Once every service was stopped.
    package static let sessions = IntegrityCheck(
        name: "sessions that outlived their process", within: .seconds(10),
        offenders: """
            SELECT a.pid::text FROM pg_stat_activity a
            WHERE a.datname = current_database() AND a.application_name = 'webhook-api'
            """)

    /// The sum of the facts of each user and window.
    private static var truth: Query {
        """
        SELECT e.user_id, w.period, w.window_start, sum(e.quota_tokens) AS tokens, sum(e.quota_requests) AS requests
        FROM metering.events e
        CROSS JOIN LATERAL (
            VALUES ('daily', (e.occurred_at AT TIME ZONE 'UTC')::date),
                   ('monthly', date_trunc('month', e.occurred_at AT TIME ZONE 'UTC')::date)
        ) AS w (period, window_start)
        WHERE e.quota_requests > 0
        GROUP BY 1, 2, 3
        """
    }
}
