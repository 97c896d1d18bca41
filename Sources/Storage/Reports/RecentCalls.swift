package import Domain
package import Postgres

/// A user's last calls, as Laravel's `api_logs` has them.
package enum RecentCalls {
    /// A row of `api_logs`.
    package struct Call: Sendable, Hashable {
        package let id: Int64
        package let user: Int64
        package let model: String
        package let inputTokens: Int64
        package let outputTokens: Int64
        /// With 6 decimals, as Laravel's JSON writes it.
        package let totalCost: String
        /// Milliseconds.
        package let responseTime: Int64
        package let status: String
        package let errorMessage: String?
        /// `nil` where Laravel wrote none.
        package let createdAt: Timestamp?
        package let updatedAt: Timestamp?
    }

    /// The last `limit` calls of `user`, by Laravel's order: rows without a time first, then the latest first.
    ///
    /// - Throws: `PostgresError`.
    package static func list(of user: Int64, limit: Int = 50, _ connection: Connection) throws -> [Call] {
        let rows = try connection.query(
            """
            SELECT l.id, l.user_id, l.model, l.input_tokens, l.output_tokens, l.total_cost::text, l.response_time_ms, l.status,
                   l.error_message, \(microseconds: "l.created_at"), \(microseconds: "l.updated_at")
            FROM public.api_logs l WHERE l.user_id = \(user)
            ORDER BY l.created_at DESC, l.id LIMIT \(limit)
            """)
        return try rows.map { row in
            Call(
                id: try row.decode(0), user: try row.decode(1), model: try row.decode(2),
                inputTokens: try row.decode(3),
                outputTokens: try row.decode(4), totalCost: try row.decode(5), responseTime: try row.decode(6),
                status: try row.decode(7), errorMessage: try row.decode(8),
                createdAt: try row.decode(9, as: Int64?.self).map(Timestamp.init),
                updatedAt: try row.decode(10, as: Int64?.self).map(Timestamp.init))
        }
    }
}
