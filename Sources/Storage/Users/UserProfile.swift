package import Domain
package import Postgres

/// A user for the API, without password, key and remember token.
package struct UserProfile: Sendable, Hashable {
    /// Laravel's id of the user.
    package let id: Int64
    /// The name.
    package let name: String
    /// The e-mail address.
    package let email: String
    /// The time at which the address was verified; `nil` if it was not.
    package let emailVerifiedAt: Timestamp?
    /// The plan.
    package let plan: String
    /// Laravel's status, such as `active`.
    package let status: String
    /// Whether the user is an administrator.
    package let isAdmin: Bool
    /// The time of creation; `nil` if Laravel wrote none.
    package let createdAt: Timestamp?
    /// The time of the last change; `nil` if Laravel wrote none.
    package let updatedAt: Timestamp?

    /// Whether the user may use the API.
    package var isActive: Bool { status == "active" }
}

extension UserProfile {
    /// The columns that ``init(_:from:)`` reads, of a user `u`.
    static let columns: Query = """
        u.id, \(UserColumn.name), \(UserColumn.email), \(microseconds: "(u.email_verified_at AT TIME ZONE 'UTC')"),
        \(UserColumn.plan), \(UserColumn.status), \(UserColumn.isAdmin),
        \(microseconds: "(u.created_at AT TIME ZONE 'UTC')"), \(microseconds: "(u.updated_at AT TIME ZONE 'UTC')")
        """

    /// Reads ``columns``, which begin at column `first` of the row.
    init(_ row: Row, from first: Int = 0) throws {
        id = try row.decode(first)
        name = try row.decode(first + 1)
        email = try row.decode(first + 2)
        emailVerifiedAt = try row.decode(first + 3, as: Int64?.self).map(Timestamp.init(microseconds:))
        plan = try row.decode(first + 4)
        status = try row.decode(first + 5)
        isAdmin = try row.decode(first + 6)
        createdAt = try row.decode(first + 7, as: Int64?.self).map(Timestamp.init(microseconds:))
        updatedAt = try row.decode(first + 8, as: Int64?.self).map(Timestamp.init(microseconds:))
    }

    /// The user `id`; `nil` without one. No function of this type finds a soft-deleted user.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(_ id: Int64, _ connection: Connection) throws -> UserProfile? {
        try connection.query("SELECT \(columns) FROM public.users u WHERE u.id = \(id) AND \(SoftDeletes.isPresent)")
            .first.map {
                try UserProfile($0)
            }
    }

    /// The user `id`.
    ///
    /// - Throws: ``AppError`` `.notFound`.
    package static func require(_ id: Int64, _ connection: Connection) throws -> UserProfile {
        guard let user = try find(id, connection) else { throw AppError(.notFound, "There is no user \(id).") }
        return user
    }

    /// The user with exactly this `email`, and the hash of the password.
    ///
    /// - Throws: ``PostgresError``.
    package static func findForLogin(
        email: String, _ connection: Connection
    ) throws -> (user: UserProfile, passwordHash: String)? {
        try findWithPassword(where: "u.email = \(email)", connection)
    }

    /// The user `id`, and the hash of the password.
    ///
    /// - Throws: ``PostgresError``.
    package static func findForSession(
        _ id: Int64, _ connection: Connection
    ) throws -> (user: UserProfile, passwordHash: String)? {
        try findWithPassword(where: "u.id = \(id)", connection)
    }

    private static func findWithPassword(
        where condition: Query, _ connection: Connection
    ) throws -> (user: UserProfile, passwordHash: String)? {
        let rows = try connection.query(
            """
            SELECT \(UserColumn.password), \(columns)
            FROM public.users u WHERE \(condition) AND \(SoftDeletes.isPresent)
            """)
        return try rows.first.map { (try UserProfile($0, from: 1), try $0.decode(0)) }
    }

    /// The key of the user `id` in clear text; `nil` without one.
    ///
    /// - Throws: ``PostgresError``.
    package static func key(of id: Int64, _ connection: Connection) throws -> String? {
        let rows = try connection.query(
            "SELECT u.api_key FROM public.users u WHERE u.id = \(id) AND \(SoftDeletes.isPresent)")
        return try rows.first?.decode(0)
    }
}

/// The columns of a user `u` in which Laravel allows no NULL. Where somebody dropped NOT NULL, a missing text is empty,
/// so the password fits none, and a missing role is no administrator's.
package enum UserColumn {
    package static let name: Query = "coalesce(u.name, '')"
    package static let email: Query = "coalesce(u.email, '')"
    package static let password: Query = "coalesce(u.password, '')"
    package static let plan: Query = "coalesce(u.plan, '')"
    package static let status: Query = "coalesce(u.status, '')"
    package static let isAdmin: Query = "coalesce(u.is_admin, false)"
}

extension UserProfile {
    /// A change of a user. `nil` leaves a value as it is.
    package struct Change: Sendable, Hashable {
        /// The name.
        package var name: String?
        /// The e-mail address.
        package var email: String?
        /// The plan.
        package var plan: String?
        /// The status.
        package var status: String?
        /// Whether the user is an administrator.
        package var isAdmin: Bool?

        /// A change of these values.
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

    /// Changes the user `id`, in the open transaction or one of its own. `updated_at` changes only if a value does.
    ///
    /// - Throws: ``AppError`` `.notFound`; `.conflict` when another user has the e-mail; `.invalid` for values that the
    ///   table refuses.
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
