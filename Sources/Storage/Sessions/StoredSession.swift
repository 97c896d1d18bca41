package import Domain
package import Postgres

/// A browser's session as Laravel's driver `database` keeps it (`laravel.md` §5).
package struct StoredSession: Sendable, Hashable {
    /// The user who is logged in.
    package let userID: Int64?
    /// Base64 of what the page remembers.
    package let payload: String

    /// The session `id`, if it was used after `moment`.
    package static func find(_ id: String, usedAfter moment: Timestamp, _ connection: Connection) throws
        -> StoredSession?
    {
        let rows = try connection.query(
            """
            SELECT user_id, payload FROM public.sessions
            WHERE id = \(id) AND last_activity > \(moment.microseconds / 1_000_000)
            """)
        return try rows.first.map { StoredSession(userID: try $0.decode(0), payload: try $0.decode(1)) }
    }
}
