import Domain
import Postgres

/// What Laravel had counted before us: its own rows of `api_logs`, without which the counters would fall to zero.
enum LaravelUsage {
    /// An id of `api_logs` up to which every row is committed or will never be.
    ///
    /// The lock waits for the transactions that are writing, at most 5 s, and is gone at once: whoever writes after it draws
    /// a higher id.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a transaction stayed open; `misuse` inside a transaction.
    static func settledLogID(_ connection: Connection) throws -> Int64 {
        try connection.transaction { connection in
            try connection.executeScript(
                "SET LOCAL lock_timeout = '5s'; LOCK TABLE public.api_logs IN SHARE MODE")
            let rows = try connection.query("SELECT log_id FROM (\(Installation.seenIDs)) seen")
            return try rows.first?.decode(0, as: Int64.self) ?? 0
        }
    }

    /// Counts the rows of `api_logs` up to `logID` into `metering.quota_usage`, for the UTC day and month of `now`.
    ///
    /// As Laravel counts (`laravel.md` §3, §6): every call but a rate-limited one is a request with its input and output
    /// tokens; but a negative number takes nothing away.
    static func seed(upTo logID: Int64, _ connection: Connection, now: Timestamp) throws {
        // A scan of all history, once.
        try connection.executeScript("SET LOCAL statement_timeout = 0")
        try connection.execute(
            """
            INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
            SELECT l.user_id, w.period, w.start::date,
                   least(sum(greatest(l.input_tokens, 0)::numeric + greatest(l.output_tokens, 0)),
                         9223372036854775807)::bigint, count(*)
            FROM (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n
            CROSS JOIN LATERAL (
                VALUES ('daily', date_trunc('day', n.utc), interval '1 day'),
                       ('monthly', date_trunc('month', n.utc), interval '1 month')
            ) AS w (period, start, length)
            JOIN public.api_logs l ON l.created_at >= w.start AND l.created_at < w.start + w.length
            WHERE l.id <= \(logID) AND l.status <> 'rate_limited'
            GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1
            """)
    }
}
