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
        for stretch in try await stretches(through: last) {
            var id = try await firstID(after: stretch.lowerBound, through: stretch.upperBound)
            while let first = id {
                let through = min(first + Self.batch - 1, stretch.upperBound)
                rows += try await pool.withConnection { connection in
                    try connection.execute(
                        """
                        DELETE FROM public.api_logs l
                        WHERE l.id >= \(first) AND l.id <= \(through) AND l.created_at < \(end)
                          AND metering.log_position(l.id) <= \(last)
                        """)
                }
                progress(rows, Int(stretch.upperBound - through))
                id = try await firstID(after: through, through: stretch.upperBound)
            }
        }
        return rows
    }

    /// The ids whose rows stand on the line up to `position`; not the first of each.
    private func stretches(through position: Int64) async throws -> [ClosedRange<Int64>] {
        try await pool.withConnection { connection in
            try connection.query("SELECT lower, upper FROM metering.id_ranges(0, \(position))").map { row in
                let (lower, upper) = try row.decode(Int64.self, Int64.self)
                return lower...upper
            }
        }
    }

    private func firstID(after id: Int64, through last: Int64) async throws -> Int64? {
        try await pool.withConnection { connection in
            try connection.query("SELECT min(id) FROM public.api_logs WHERE id > \(id) AND id <= \(last)")[0].decode(
                0, as: Int64?.self)
        }
    }
}
