internal import Domain
package import Postgres
internal import Storage

/// Compares the database with the sent events and their answers.
package struct IntegrityAudit: Sendable {
    /// How many events one INSERT stores.
    private static let chunk = 5_000

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Stores the sent events in the schema `drill`, for the checks.

    ///

    /// - Throws: ``PostgresError``.
    package func load(_ entries: [LoadRecord.Entry]) async throws {
        try await pool.withConnection { connection in
            try connection.executeScript(
                """
                CREATE SCHEMA drill;
                CREATE TABLE drill.expected (
                    name text PRIMARY KEY, user_id bigint, tokens bigint, requests bigint, reason text, log_id bigint)
                """)
            for start in stride(from: 0, to: entries.count, by: Self.chunk) {
                let part = entries[start..<min(start + Self.chunk, entries.count)]
                let stored = part.map(\.fate.stored)
                try connection.execute(
                    """
                    INSERT INTO drill.expected (name, user_id, tokens, requests, reason, log_id)
                    SELECT * FROM unnest(
                        \(part.map(\.name))::text[], \(stored.map { $0?.userID })::bigint[],
                        \(stored.map { $0?.tokens })::bigint[], \(stored.map { $0?.requests })::bigint[],
                        \(part.map(\.fate.reason?.rawValue))::text[], \(part.map(\.logID))::bigint[])
                    """)
            }
            try connection.executeScript("ANALYZE")
        }
    }

    /// Waits until there is no offender or the grace has passed. Returns the number of offenders and the first ones.
    ///
    /// - Throws: ``PostgresError``.
    package func offenders(
        of check: IntegrityCheck, within grace: Duration? = nil
    ) async throws -> (count: Int, examples: String) {
        var found = (count: 0, examples: "")
        do {
            try await eventually(check.name, within: grace ?? check.grace) {
                let (count, examples) = try await pool.withConnection { connection in
                    try connection.query(
                        """
                        SELECT count(*), coalesce(array_to_string((array_agg(o.name))[1:5], ', '), '')
                        FROM (\(check.offenders)) AS o (name)
                        """)[0].decode(Int.self, String.self)
                }
                found = (count, examples)
                return count == 0
            }
        } catch is NotInTime {}
        return found
    }

    /// A whole number of the database.

    ///

    /// - Throws: ``PostgresError``.
    func number(_ query: Query) async throws -> Int {
        try await pool.withConnection { try $0.query(query)[0].decode(0, as: Int.self) }
    }
}

extension LoadEvent.Fate {
    fileprivate var stored: (userID: Int64, tokens: Int64, requests: Int64)? {
        if case .stored(let userID, let tokens, let requests) = self { (userID, tokens, requests) } else { nil }
    }

    fileprivate var reason: QuarantineReason? {
        if case .quarantined(let reason) = self { reason } else { nil }
    }
}

/// One property of the database after a load, as a query for what violates it.
package struct IntegrityCheck: Sendable {
    /// The name of an offender.
    package let name: String
    /// How long it may take until there is none.
    package let grace: Duration
    /// A query with one text column and a row for each offender.
    package let offenders: Query

    private init(name: String, within grace: Duration = .zero, offenders: Query) {
        self.name = name
        self.grace = grace
        self.offenders = offenders
    }

    /// No acknowledged event is lost and none is stored twice. A log, its event and its part of the counters exist
    /// together.
    package static let stored = [
        IntegrityCheck(
            name: "acknowledged events that are not stored",
            offenders: """
                SELECT x.name FROM drill.expected x
                WHERE x.reason IS NULL AND NOT EXISTS (SELECT FROM metering.events e WHERE e.model_group = x.name)
                """),
        IntegrityCheck(
            name: "events that are stored twice",
            offenders: "SELECT e.model_group FROM metering.events e GROUP BY 1 HAVING count(*) > 1"),
        IntegrityCheck(
            name: "events with more than one log",
            offenders: "SELECT l.model FROM public.api_logs l GROUP BY 1 HAVING count(*) > 1"),
        IntegrityCheck(
            name: "events that differ from what was sent",
            offenders: """
                SELECT e.model_group
                FROM metering.events e LEFT JOIN drill.expected x ON x.name = e.model_group AND x.reason IS NULL
                WHERE (e.user_id, e.quota_tokens, e.quota_requests) IS DISTINCT FROM (x.user_id, x.tokens, x.requests)
                """),
        IntegrityCheck(
            name: "events under another log_id than the answer's",
            offenders: """
                SELECT e.model_group FROM metering.events e JOIN drill.expected x ON x.name = e.model_group
                WHERE \(IDLine.id(of: "e.api_log_id")) IS DISTINCT FROM x.log_id
                """),
        IntegrityCheck(
            name: "events without their log",
            offenders: """
                SELECT e.model_group
                FROM metering.events e LEFT JOIN public.api_logs l ON \(IDLine.isRowOfEvent)
                WHERE l.id IS NULL
                """),
        IntegrityCheck(
            name: "logs without an event",
            offenders: """
                SELECT l.model FROM public.api_logs l
                WHERE NOT EXISTS (SELECT FROM metering.events e WHERE \(IDLine.isRowOfEvent))
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
            name: "entries in quarantine that should be logs",
            offenders: """
                SELECT q.reason || ' ' || coalesce(q.event->>'model', q.detail) FROM metering.quarantine q
                WHERE NOT EXISTS (
                    SELECT FROM drill.expected x WHERE x.reason IS NOT NULL AND x.name = q.event->>'model')
                """),
        counters,
    ]

    /// The counters and pending deltas of each user and period are the sum of the events.
    package static let counters = IntegrityCheck(
        name: "counters that are not the sum of the events",
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

    /// `rate_limits`, which Laravel reads, right after the load.
    package static let projection = IntegrityCheck(
        name: "rows of rate_limits that are not the sums of the present periods", within: .seconds(2),
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

    /// While the services run and no client sends.
    package static let openTransactions = IntegrityCheck(
        name: "sessions left in a transaction", within: .seconds(5),
        offenders: """
            SELECT concat_ws(' ', a.application_name, a.pid) FROM pg_stat_activity a
            WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
            """)

    /// After all services were stopped.
    package static let sessions = IntegrityCheck(
        name: "sessions that outlived their process", within: .seconds(10),
        offenders: """
            SELECT a.pid::text FROM pg_stat_activity a
            WHERE a.datname = current_database() AND a.application_name = 'webhook-api'
            """)

    /// The sums of the events of each user and period.
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
