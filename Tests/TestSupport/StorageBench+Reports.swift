package import Analytics
internal import Domain
package import Postgres
internal import Storage

extension ReportRange {
    /// The local days of `zone` from `from` (`2026-11-01`) to before `to`.
    package static func days(_ from: String, _ to: String, in zone: String, _ connection: Connection) throws
        -> ReportRange
    {
        let zone = try TimeZoneName.require(zone, connection)
        return try ReportRange(from: zone.start(of: from, connection), to: zone.start(of: to, connection), zone: zone)
    }
}

extension StorageBench {
    /// What `body` reads in one snapshot of the database.
    package func report<T: Sendable>(_ body: @Sendable (ReportSnapshot) throws -> T) async throws -> T {
        try await admin.withConnection { try ReportSnapshot.take($0, body) }
    }

    /// Rows as Laravel writes them: `count` of them at pseudo-random times from `start` to `end` (UTC), with three
    /// models, all statuses, and durations that `duration` (SQL over `r`, even in 0 to 1) makes.
    package func fill(
        _ user: Int64, count: Int, from start: String, to end: String, duration: Query = "exp(r * 11)", seed: Int = 1
    ) async throws {
        try await execute(
            """
            INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                         status, created_at, updated_at)
            SELECT \(user)::bigint, (ARRAY['gpt-4', 'claude', 'gemini'])[1 + mod(g, 7) % 3], mod(g, 501), mod(g, 37),
                   mod(g, 9973)::numeric / 1000000, (\(duration))::integer,
                   (ARRAY['success', 'success', 'success', 'error', 'rate_limited'])[1 + mod(g, 5)],
                   date_trunc('second', \(start)::timestamp + (\(end)::timestamp - \(start)::timestamp) * at), now()
            FROM (SELECT g, (hashint8extended(g, \(seed)) & 1048575) / 1048576::float8 AS at,
                         (hashint8extended(g, \(-seed)) & 1048575) / 1048576::float8 AS r
                  FROM generate_series(1, \(count)) g) x
            """)
    }
}

extension LogEntries {
    /// The text of the column `name` of a log.
    package func value(_ entry: Int, _ name: String) -> String? {
        withExtendedLifetime(self) {
            text(entry, LogColumn.position(of: name)).map { String(decoding: $0, as: UTF8.self) }
        }
    }
}
