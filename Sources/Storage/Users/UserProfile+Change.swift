package import Domain
package import Postgres

extension UserProfile {
    /// What a user, or an administrator, changes of a user; `nil` stays as it is.
    package struct Change: Sendable, Hashable {
        package var name: String?
        package var email: String?
        package var plan: String?
        package var status: String?
        package var isAdmin: Bool?

        package init(
            name: String? = nil, email: String? = nil, plan: String? = nil, status: String? = nil, isAdmin: Bool? = nil
        ) {
            self.name = name
            self.email = email
            self.plan = plan
            self.status = status
            self.isAdmin = isAdmin
        }
    }

    /// Changes the user `id`, in the transaction that is open or one of its own; `updated_at` moves only where something does.
    ///
    /// - Throws: ``AppError`` `.notFound`; `.conflict` when another user has the e-mail; `.invalid` for what the table refuses.
    package static func update(
        _ id: Int64, _ change: Change, _ connection: Connection, now: Timestamp
    ) throws -> UserProfile {
        try UserAccounts.explainingRefusal {
            let update: Query = """
                UPDATE public.users u
                SET name = n.name, email = n.email, plan = n.plan, status = n.status, is_admin = n.is_admin,
                    updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                FROM (
                    SELECT o.id, coalesce(\(change.name), o.name) AS name, coalesce(\(change.email), o.email) AS email,
                           coalesce(\(change.plan), o.plan) AS plan, coalesce(\(change.status), o.status) AS status,
                           coalesce(\(change.isAdmin)::boolean, o.is_admin) AS is_admin
                    FROM public.users o WHERE o.id = \(id) FOR NO KEY UPDATE
                ) n
                WHERE u.id = n.id AND (u.name, u.email, u.plan, u.status, u.is_admin)
                                      IS DISTINCT FROM (n.name, n.email, n.plan, n.status, n.is_admin)
                """
            try connection.execute(update)
        }
        return try require(id, connection)
    }
}
