package import Domain
package import Postgres

/// Deletes old rows of Laravel's `api_logs`, when an operator asks for it, and never one that is not in the sums.
package struct LogRetention: Sendable {
    /// Ids of one transaction.
    private static let batch: Int64 = 5_000

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Deletes the rows of UTC days that ended `days` days before `now`, and returns how many.
    ///
    /// `progress` is told how many rows are deleted and how many ids are left to look at.
    ///
    /// - Throws: ``PostgresError``.
    package func run(days: Int, now: Timestamp, progress: (_ rows: Int, _ left: Int) -> Void) async throws -> Int {
        let end: Query = "date_trunc('day', (\(now) - \(days)::integer * interval '1 day') AT TIME ZONE 'UTC')"
        // Laravel goes on writing meanwhile; what is folded when we begin is enough for one run.
        let last = try await pool.transaction { connection in
            let cursor = try UsageCursor.hold(connection)
            try Seal.extend(to: "(\(end)) AT TIME ZONE 'UTC'", connection)
            return cursor.folded
        }
        var rows = 0
        var id = try await firstID()
        while let first = id, first <= last {
            let through = min(first + Self.batch - 1, last)
            rows += try await pool.withConnection { connection in
                try connection.execute(
                    "DELETE FROM public.api_logs WHERE id >= \(first) AND id <= \(through) AND created_at < \(end)")
            }
            progress(rows, Int(last - through))
            id = try await firstID(from: through + 1)
        }
        return rows
    }

    private func firstID(from id: Int64 = 0) async throws -> Int64? {
        try await pool.withConnection { connection in
            try connection.query("SELECT min(id) FROM public.api_logs WHERE id >= \(id)")[0].decode(0, as: Int64?.self)
        }
    }
}
