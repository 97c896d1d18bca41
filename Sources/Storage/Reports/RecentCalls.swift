package import Postgres

/// A user's last calls, as Laravel's first page shows them.
package enum RecentCalls {
    /// The last `limit` calls of `user`, by Laravel's order: rows without a time first, then the latest first.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(of user: Int64, limit: Int = 50, _ connection: Connection) throws -> [LogRow] {
        try connection.query(
            """
            SELECT \(LogRow.columns) FROM public.api_logs l WHERE l.user_id = \(user)
            ORDER BY l.created_at DESC, l.id LIMIT \(limit)
            """
        ).map(LogRow.init)
    }
}
