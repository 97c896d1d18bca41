package import Domain
package import Postgres

/// Adds the deltas of committed ingest transactions to the counters, exactly once, and shows the new counters in
/// Laravel's `rate_limits`.
package enum QuotaCounters {
    /// The most deltas of one transaction.
    private static let batch = 2_000

    /// Adds the present deltas. Returns the users whose row of `rate_limits` ``RateLimitProjection`` must still set,
    /// because it is missing, is of another window, or is locked by another transaction.
    ///
    /// The transaction that adds a delta deletes it, so it counts exactly once, also after a crash. Deltas that commit
    /// later are found by the next call, whatever their ids. Calls of all processes run one after the other. Each sets
    /// `rate_limits` before the next one counts. If a row is locked, it sets none and returns all users.
    ///
    /// - Throws: ``PostgresError``.
    package static func addDeltas(_ connection: Connection, now: Timestamp) throws -> [Int64] {
        let rows = try connection.transaction { connection in
            // Other processes wait at most this long for one that stopped in between.
            try connection.executeScript("SET LOCAL idle_in_transaction_session_timeout = '5s'")
            try keepOut(connection)
            do {
                return try connection.savepoint { connection in
                    try connection.executeScript("SET LOCAL lock_timeout = '50ms'")
                    return try connection.query(statement(now: now, shown: shown(now: now)))
                }
            } catch let error as PostgresError where error.sqlState == "55P03" {
                // A row is locked, or Laravel alters the table. The counters do not wait for it.
                return try connection.query(statement(now: now, shown: shownNothing))
            }
        }
        return try rows.map { try $0.decode(0, as: Int64.self) }
    }

    /// Waits for a running ``addDeltas(_:now:)``, and blocks further ones until the transaction ends.
    ///
    /// - Throws: ``PostgresError``.
    package static func keepOut(_ connection: Connection) throws {
        try connection.execute("SELECT pg_advisory_xact_lock(hashtext('metering.quota_usage'))")
    }

    /// Adds every delta in the open transaction, after ``keepOut(_:)``. Sets no row of `rate_limits`.
    ///
    /// - Throws: ``PostgresError``.
    package static func addAllDeltas(_ connection: Connection, now: Timestamp) throws {
        let waiting = try connection.query("SELECT count(*) FROM metering.quota_deltas")[0].decode(0, as: Int.self)
        for _ in 0...(waiting / batch) { try connection.execute(statement(now: now, shown: shownNothing)) }
    }

    private static let shownNothing: Query = "SELECT NULL::bigint AS user_id WHERE false"

    /// Sets the rows of the windows that changed.
    private static func shown(now: Timestamp) -> Query {
        """
        UPDATE public.rate_limits r
        SET limit_tokens = t.limit_tokens, used_tokens = t.used_tokens, limit_requests = t.limit_requests,
            used_requests = t.used_requests, updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
        FROM truth t
        WHERE r.user_id = t.user_id AND r.period = t.period AND r.reset_at = t.reset_at
        RETURNING r.user_id
        """
    }

    private static func statement(now: Timestamp, shown: Query) -> Query {
        """
        WITH taken AS (
            DELETE FROM metering.quota_deltas
            WHERE id = ANY(ARRAY(SELECT id FROM metering.quota_deltas ORDER BY id LIMIT \(batch)))
            RETURNING user_ids, days, tokens, requests, costs
        ), counted AS (
            INSERT INTO metering.quota_usage AS q (user_id, period, window_start, tokens, requests, cost)
            SELECT d.user_id, w.period, w.window_start,
                   \(unsafeSQL: Query.saturated("sum(d.tokens)")), sum(d.requests),
                   coalesce(sum(metering.finite(d.cost)), 0)
            FROM taken t
            CROSS JOIN LATERAL unnest(t.user_ids, t.days, t.tokens, t.requests, t.costs)
                AS d (user_id, day, tokens, requests, cost)
            CROSS JOIN LATERAL (
                VALUES ('daily', d.day), ('monthly', date_trunc('month', d.day::timestamp)::date)
            ) AS w (period, window_start)
            GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1
            ON CONFLICT (window_start, period, user_id) DO UPDATE
            SET tokens = \(unsafeSQL: Query.saturated("q.tokens::numeric + excluded.tokens")),
                requests = q.requests + excluded.requests, cost = q.cost + excluded.cost
            RETURNING user_id, period, window_start, tokens, requests
        ), \(RateLimitProjection.windows(at: now)), usage AS (
            SELECT c.* FROM counted c JOIN bound b USING (period, window_start)
        ), \(RateLimitProjection.truth(
            from: "usage q JOIN public.users u ON u.id = q.user_id JOIN bound b ON b.period = q.period",
            where: "true")),
        shown AS (
            \(shown)
        ), unset AS (
            SELECT user_id, 1 AS rows FROM truth
            UNION ALL SELECT user_id, -1 FROM shown
            -- The window began since.
            UNION ALL SELECT c.user_id, 1 FROM counted c JOIN bound b USING (period)
                WHERE c.window_start > b.window_start
        )
        SELECT user_id FROM unset GROUP BY user_id HAVING sum(rows) > 0 ORDER BY user_id
        """
    }
}

/// Sets Laravel's `rate_limits` to our counters of the current windows. It writes absolute values and never increments.
/// Laravel resets and increments these rows itself, with races. The next projection repairs what Laravel wrote. Rows
/// and users that another open transaction holds are left to a later projection.
package enum RateLimitProjection {
    /// Which rows are compared with the truth.
    package enum Scope: Sendable {
        /// The rows of these users. Missing rows are inserted.
        case users([Int64])
        /// Every row, and the missing rows of all users with usage in a current window.
        case all
    }

    /// Corrects the rows of `scope`. Returns the users with a row that is still wrong: another open transaction holds
    /// it, or it changed meanwhile.
    ///
    /// - Throws: ``PostgresError``.
    @discardableResult
    package static func project(_ connection: Connection, _ scope: Scope, now: Timestamp) throws -> [Int64] {
        let (wrong, missing) = try connection.transaction { connection in
            // A generic plan assumes ten users, and takes twice as long for thousands.
            try connection.executeScript("SET LOCAL plan_cache_mode = force_custom_plan")
            return try update(connection, scope, now: now)
        }
        try insertMissing(connection, missing, now: now)
        return wrong
    }

    /// Inserts the missing rows. A row that Laravel is inserting is left to a later projection.
    private static func insertMissing(_ connection: Connection, _ users: [Int64], now: Timestamp) throws {
        guard !users.isEmpty else { return }
        do {
            try connection.transaction { try insert($0, users, now: now) }
        } catch let error as PostgresError where error.sqlState == "55P03" {
            guard users.count > 1 else { return }
            let (first, second) = (users[..<(users.count / 2)], users[(users.count / 2)...])
            try insertMissing(connection, Array(first), now: now)
            try insertMissing(connection, Array(second), now: now)
        }
    }

    /// Corrects the rows that exist, and finds the users without one. A row that changed since it was compared is left
    /// alone, as ``QuotaCounters`` may have written it. Only our columns are compared, as Laravel may add columns of
    /// types without equality.
    private static func update(
        _ connection: Connection, _ scope: Scope, now: Timestamp
    ) throws -> (wrong: [Int64], missing: [Int64]) {
        let rows = try connection.query(
            """
            WITH \(truth(of: scope, now: now)),
            compared AS MATERIALIZED (
                SELECT t.*, r.id, r.limit_tokens AS seen_limit_tokens, r.used_tokens AS seen_used_tokens,
                       r.limit_requests AS seen_limit_requests, r.used_requests AS seen_used_requests,
                       r.reset_at AS seen_reset_at,
                       (r.limit_tokens, r.used_tokens, r.limit_requests, r.used_requests, r.reset_at)
                       IS DISTINCT FROM
                       (t.limit_tokens, t.used_tokens, t.limit_requests, t.used_requests, t.reset_at) AS is_wrong
                FROM truth t LEFT JOIN public.rate_limits r ON r.user_id = t.user_id AND r.period = t.period
            ), free AS (
                SELECT r.id FROM public.rate_limits r
                WHERE r.id = ANY(ARRAY(SELECT c.id FROM compared c WHERE c.is_wrong))
                ORDER BY r.id
                FOR NO KEY UPDATE OF r SKIP LOCKED
            ), updated AS (
                UPDATE public.rate_limits r
                SET limit_tokens = c.limit_tokens, used_tokens = c.used_tokens, limit_requests = c.limit_requests,
                    used_requests = c.used_requests, reset_at = c.reset_at,
                    updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                FROM free f JOIN compared c ON c.id = f.id
                WHERE r.id = f.id
                  AND (r.limit_tokens, r.used_tokens, r.limit_requests, r.used_requests, r.reset_at)
                      = (c.seen_limit_tokens, c.seen_used_tokens, c.seen_limit_requests, c.seen_used_requests,
                         c.seen_reset_at)
                RETURNING r.id
            )
            SELECT ARRAY(SELECT DISTINCT c.user_id FROM compared c LEFT JOIN updated u ON u.id = c.id
                         WHERE c.is_wrong AND c.id IS NOT NULL AND u.id IS NULL),
                   ARRAY(SELECT DISTINCT c.user_id FROM compared c WHERE c.id IS NULL)
            """)
        return try rows[0].decode([Int64].self, [Int64].self)
    }

    /// Inserts the rows that Laravel inserts at a user's first call. It does so only for users whose row is not locked,
    /// as the foreign key would wait for the lock. It waits only a moment for a row that Laravel is inserting.
    private static func insert(_ connection: Connection, _ users: [Int64], now: Timestamp) throws {
        try connection.executeScript("SET LOCAL lock_timeout = '250ms'")
        try connection.execute(
            """
            WITH \(truth(of: .users(users), now: now)),
            missing AS MATERIALIZED (
                SELECT t.* FROM truth t
                WHERE NOT EXISTS (
                    SELECT FROM public.rate_limits r WHERE r.user_id = t.user_id AND r.period = t.period)
            ), free AS MATERIALIZED (
                SELECT u.id FROM public.users u
                WHERE u.id IN (SELECT m.user_id FROM missing m)
                ORDER BY u.id FOR KEY SHARE OF u SKIP LOCKED
            )
            INSERT INTO public.rate_limits (
                user_id, period, limit_tokens, used_tokens, limit_requests, used_requests, reset_at, created_at,
                updated_at)
            SELECT m.user_id, m.period, m.limit_tokens, m.used_tokens, m.limit_requests, m.used_requests, m.reset_at,
                   date_trunc('second', \(now) AT TIME ZONE 'UTC'), date_trunc('second', \(now) AT TIME ZONE 'UTC')
            FROM missing m JOIN free f ON f.id = m.user_id
            ORDER BY m.user_id, m.period
            ON CONFLICT (user_id, period) DO NOTHING
            """)
    }

    /// The CTE `bound (period, window_start, reset_at)`: the windows in UTC that contain `now`, and when they end.
    static func windows(at now: Timestamp) -> Query {
        """
        bound (period, window_start, reset_at) AS MATERIALIZED (
            SELECT w.period, date_trunc(w.unit, n.utc)::date, (date_trunc(w.unit, n.utc) + w.length)::timestamp(0)
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n,
                 (VALUES ('daily', 'day', interval '1 day'), ('monthly', 'month', interval '1 month'))
                 AS w (period, unit, length)
        )
        """
    }

    /// The CTEs `bound` (the current windows in UTC), `usage` (the counters of them) and `truth`.
    private static func truth(of scope: Scope, now: Timestamp) -> Query {
        let (counted, users): (Query, Query) =
            switch scope {
            case .users(let ids): ("WHERE q.user_id = ANY(\(ids)::bigint[])", "= ANY(\(ids)::bigint[])")
            case .all: ("", "IN (SELECT user_id FROM public.rate_limits UNION SELECT user_id FROM usage)")
            }
        return """
            \(windows(at: now)), usage AS (
                SELECT q.user_id, q.period, q.tokens, q.requests
                FROM bound b JOIN metering.quota_usage q ON q.window_start = b.window_start AND q.period = b.period
                \(counted)
            ), \(truth(
                from: "public.users u CROSS JOIN bound b LEFT JOIN usage q ON q.user_id = u.id AND q.period = b.period",
                where: "u.id \(users)"))
            """
    }

    /// The CTE `truth`: what the rows of `rate_limits` must say. `source` has users `u`, windows `b` and their usage
    /// `q`. Values saturate at the end of int4, Laravel's column type. A user without any limit has no row.
    static func truth(from source: Query, where condition: Query) -> Query {
        """
        truth AS (
            SELECT u.id AS user_id, b.period, b.reset_at,
                   \(Query.laravelCount(of: Registration.limit("coalesce(l.tokens, p.tokens)")))::integer
                       AS limit_tokens,
                   \(Query.laravelCount(of: Registration.limit("coalesce(l.requests, p.requests)")))::integer
                       AS limit_requests,
                   greatest(\(Query.laravelCount(of: "coalesce(q.tokens, 0)")), 0)::integer AS used_tokens,
                   greatest(\(Query.laravelCount(of: "coalesce(q.requests, 0)")), 0)::integer AS used_requests
            FROM \(source)
            LEFT JOIN metering.plan_limits p ON p.plan = u.plan AND p.period = b.period
            LEFT JOIN metering.user_limits l ON l.user_id = u.id AND l.period = b.period
            WHERE \(condition) AND (\(Registration.limit("coalesce(l.tokens, p.tokens)"))) IS NOT NULL
        )
        """
    }
}
