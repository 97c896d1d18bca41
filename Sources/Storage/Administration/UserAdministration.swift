package import Domain
package import Postgres

/// The list of users for administrators, page by page.
package enum UserDirectory {
    /// The most characters by which a key is found. A search by all of them would let a key be guessed one by one.
    private static let shownOfKey = 12

    /// Conditions on users. A user must meet all that are not `nil`.
    package struct Filter: Sendable, Hashable {
        /// A part of the name or e-mail in any case, or the beginning of the key.
        package var search: String?
        /// The plan.
        package var plan: String?
        /// Laravel's status, such as `active`.
        package var status: String?
        /// Whether the user is an administrator.
        package var isAdmin: Bool?
        /// Whether Laravel has soft-deleted the user.
        package var isDeleted: Bool?

        /// A filter with these conditions.
        package init(
            search: String? = nil, plan: String? = nil, status: String? = nil, isAdmin: Bool? = nil,
            isDeleted: Bool? = nil
        ) {
            self.search = search
            self.plan = plan
            self.status = status
            self.isAdmin = isAdmin
            self.isDeleted = isDeleted
        }

        fileprivate var conditions: [Query] {
            [
                search.map { text in
                    """
                    (\(TextSearch.condition("u.name", has: text)) OR \(TextSearch.condition("u.email", has: text))
                     OR starts_with(left(u.api_key, \(shownOfKey)::integer), \(text)))
                    """
                },
                plan.map { "u.plan = \($0)" }, status.map { "u.status = \($0)" },
                isAdmin.map { "\(UserColumn.isAdmin) = \($0)" },
                // The subquery runs once. A function call for each user would be slower.
                isDeleted.map { "(u.id IN (SELECT metering.deleted_users())) = \($0)" },
            ].compactMap(\.self)
        }
    }

    /// The order of a page. Users with equal keys are ordered by id.
    package enum Sort: String, Sendable, CaseIterable {
        case id, name, email
        case createdAt = "created_at"

        /// The ordered expression; never NULL.
        fileprivate var key: Query {
            switch self {
            case .id: "u.id"
            case .name: "lower(\(UserColumn.name))"
            case .email: "lower(\(UserColumn.email))"
            case .createdAt: "coalesce(u.created_at, '-infinity')"
            }
        }

        fileprivate var type: Query {
            switch self {
            case .id: "bigint"
            case .name, .email: "text"
            case .createdAt: "timestamp"
            }
        }
    }

    /// The position at which a page ended.
    package struct Cursor: Sendable, Hashable, Codable {
        /// The ordered value of the last user.
        package var key: String
        /// The id of the last user.
        package var id: Int64

        /// The position of the user `id` with the value `key`.
        package init(key: String, id: Int64) {
            self.key = key
            self.id = id
        }
    }

    /// One page.
    package struct Page: Sendable, Hashable {
        /// The users, in order.
        package let accounts: [UserAccounts.Account]
        /// The position at which the next page begins; `nil` on the last one.
        package let next: Cursor?
    }

    /// At most `limit` of the users that `filter` selects, after `cursor`.
    ///
    /// - Throws: ``AppError`` `.invalid` for a cursor of another order.
    package static func list(
        _ filter: Filter, sort: Sort = .id, isDescending: Bool = false, after cursor: Cursor? = nil, limit: Int,
        _ connection: Connection
    ) throws -> Page {
        let comparison: Query = isDescending ? "<" : ">"
        let direction: Query = isDescending ? "DESC" : "ASC"
        let beyond = cursor.map {
            "(\(sort.key), u.id) \(comparison) (\($0.key)::\(sort.type), \($0.id)::bigint)" as Query
        }
        let conditions = filter.conditions + [beyond].compactMap(\.self)
        let condition = conditions.reduce("true" as Query) { "\($0) AND \($1)" }
        do {
            let rows = try connection.query(
                """
                SELECT \(UserAccounts.Account.columns), (\(sort.key))::text
                FROM public.users u WHERE \(condition)
                ORDER BY \(sort.key) \(direction), u.id \(direction) LIMIT \(limit + 1)
                """)
            let accounts = try rows.prefix(limit).map(UserAccounts.Account.init)
            guard rows.count > limit, let last = accounts.last else { return Page(accounts: accounts, next: nil) }
            let key = try rows[limit - 1].decode(UserAccounts.Account.columnCount, as: String.self)
            return Page(accounts: accounts, next: Cursor(key: key, id: last.id))
        } catch let error as PostgresError where error.sqlState?.hasPrefix("22") == true {
            throw AppError(
                .invalid, "The cursor is not one of this order. Begin again without it.", cause: .invalidCursor)
        }
    }
}

/// Changes of users by administrators. Every change is recorded in the audit log.
package struct UserAdministration: Sendable {
    private let actor: AuditActor
    private let now: Timestamp

    /// Changes that `actor` makes at `now`.
    package init(by actor: AuditActor, at now: Timestamp) {
        self.actor = actor
        self.now = now
    }

    /// Makes a user with a key.
    ///
    /// - Throws: ``AppError`` as ``UserAccounts/create(_:_:now:)``.
    package func create(_ account: UserAccounts.NewAccount, _ connection: Connection) throws -> UserAccounts.Account {
        let id = try connection.transaction { connection in
            let id = try UserAccounts.insert(account, connection, now: now)
            try AuditLog.record(.user(id), "user.create", before: nil, by: actor, at: now, connection)
            return id
        }
        UserAccounts.remember(account.apiKey, connection, now: now)
        return try UserAccounts.require(id, connection)
    }

    /// Changes an account.
    ///
    /// - Throws: ``AppError`` `.notFound`, `.invalid` for values that Laravel's table does not take, `.conflict` when
    ///   the e-mail is taken or no active administrator would be left.
    package func update(
        _ id: Int64, _ change: UserProfile.Change, action: String = "user.update", _ connection: Connection
    ) throws -> UserAccounts.Account {
        try AuditLog.changing(.user(id, admins: change.weakens), action, by: actor, at: now, connection) { connection in
            try UserAccounts.requirePresent(id, connection)
            let wasAdministrator = try Self.isAdministrator(id, connection)
            _ = try UserProfile.update(id, change, connection, now: now)
            if wasAdministrator { try Self.requireAdministrator(connection) }
            return try UserAccounts.require(id, connection)
        }
    }

    /// Suspends an account: its calls are refused from now on.
    ///
    /// - Throws: As ``update(_:_:action:_:)``.
    package func suspend(_ id: Int64, _ connection: Connection) throws -> UserAccounts.Account {
        try update(id, UserProfile.Change(status: "suspended"), action: "user.suspend", connection)
    }

    /// Activates an account: its calls are accepted again.
    ///
    /// - Throws: As ``update(_:_:action:_:)``.
    package func activate(_ id: Int64, _ connection: Connection) throws -> UserAccounts.Account {
        try update(id, UserProfile.Change(status: "active"), action: "user.activate", connection)
    }

    /// Marks the e-mail address of an account as verified. A verified address stays as it is.
    ///
    /// - Returns: Whether it was not verified before.
    /// - Throws: ``AppError`` `.notFound`.
    package func verify(_ id: Int64, _ connection: Connection) throws -> Bool {
        try AuditLog.changing(.user(id), "user.verify", by: actor, at: now, connection) { connection in
            try UserAccounts.requirePresent(id, connection)
            let verified = try connection.execute(
                """
                UPDATE public.users
                SET email_verified_at = date_trunc('second', \(now) AT TIME ZONE 'UTC'),
                    updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                WHERE id = \(id) AND email_verified_at IS NULL
                """)
            return verified == 1
        }
    }

    /// Gives an account another key. Calls that were made with the old key still find their user.
    ///
    /// - Throws: ``AppError`` `.notFound`; `.conflict` when a user has this key.
    package func setKey(_ id: Int64, to key: String, _ connection: Connection) throws -> UserAccounts.Account {
        try UserAccounts.rotateKey(id, to: key, connection, now: now) {
            try AuditLog.changing(.user(id), "user.key", by: actor, at: now, $0, $1)
        }
    }

    /// Whether a user `u` is an active administrator.
    private static let isAdministrator: Query = "u.is_admin AND u.status = 'active' AND \(SoftDeletes.isPresent)"

    private static func isAdministrator(_ id: Int64, _ connection: Connection) throws -> Bool {
        try !connection.query("SELECT FROM public.users u WHERE u.id = \(id) AND \(isAdministrator)").isEmpty
    }

    private static func requireAdministrator(_ connection: Connection) throws {
        let isOneLeft = try connection.query(
            "SELECT EXISTS (SELECT FROM public.users u WHERE \(isAdministrator))"
        )[0].decode(0, as: Bool.self)
        guard isOneLeft else {
            throw AppError(
                .conflict, "This is the last active administrator. Make another one first, then try again.",
                cause: .lastAdministrator)
        }
    }
}

extension UserProfile.Change {
    /// Whether it may leave no active administrator.
    fileprivate var weakens: Bool { isAdmin == false || status == "suspended" }
}
