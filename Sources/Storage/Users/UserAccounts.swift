package import Domain
package import Postgres

/// The users of Laravel's table, for operators.
package enum UserAccounts {
    /// A user, without the whole key.
    package struct Account: Sendable, Hashable {
        /// Laravel's id of the user.
        package let id: Int64
        /// The name.
        package let name: String
        /// The e-mail address.
        package let email: String
        /// The plan.
        package let plan: String
        /// Laravel's status, such as `active`.
        package let status: String
        /// Whether the user is an administrator.
        package let isAdmin: Bool
        /// Whether Laravel has soft-deleted the user.
        package let isDeleted: Bool
        /// The first 7 characters of the key, or fewer of a short key; `nil` without a key.
        package let keyPrefix: String?
        /// The time of creation; `nil` if Laravel wrote none.
        package let createdAt: Timestamp?
        /// The time of the last change; `nil` if Laravel wrote none.
        package let updatedAt: Timestamp?

        /// The columns of `public.users u` that ``init(_:)`` reads.
        static let columns: Query = """
            u.id, \(UserColumn.name), \(UserColumn.email), \(UserColumn.plan), \(UserColumn.status),
            \(UserColumn.isAdmin), \(SoftDeletes.isDeleted), \(UserAccounts.keyPrefix),
            \(microseconds: "u.created_at"), \(microseconds: "u.updated_at")
            """
        static let columnCount = 10

        init(_ row: Row) throws {
            let created: Int64?
            let updated: Int64?
            (id, name, email, plan, status, isAdmin, isDeleted, keyPrefix, created, updated) = try row.decode(
                Int64.self, String.self, String.self, String.self, String.self, Bool.self, Bool.self, String?.self,
                Int64?.self, Int64?.self)
            createdAt = created.map(Timestamp.init(microseconds:))
            updatedAt = updated.map(Timestamp.init(microseconds:))
        }
    }

    /// A user to be created.
    package struct NewAccount: Sendable {
        /// The name.
        package var name: String
        /// The e-mail address.
        package var email: String
        /// The hash of the password in the form that Laravel verifies, `$2y$12$…`.
        package var passwordHash: String
        /// The key in clear text.
        package var apiKey: String
        /// The plan.
        package var plan: String
        /// Whether the user is an administrator.
        package var isAdmin: Bool

        /// A user with these values.
        package init(
            name: String, email: String, passwordHash: String, apiKey: String, plan: String, isAdmin: Bool
        ) {
            self.name = name
            self.email = email
            self.passwordHash = passwordHash
            self.apiKey = apiKey
            self.plan = plan
            self.isAdmin = isAdmin
        }
    }

    /// Creates a user and records the key, so that its first call finds the user.
    ///
    /// - Throws: ``AppError`` `.conflict` when the e-mail or key is taken, `.invalid` for a plan that does not exist.
    package static func create(_ account: NewAccount, _ connection: Connection, now: Timestamp) throws -> Int64 {
        let id = try connection.transaction { try insert(account, $0, now: now) }
        remember(account.apiKey, connection, now: now)
        return id
    }

    /// Creates a user in the open transaction. Call ``remember(_:_:now:)`` after COMMIT.
    static func insert(_ account: NewAccount, _ connection: Connection, now: Timestamp) throws -> Int64 {
        try explainingRefusal {
            try connection.query(
                """
                INSERT INTO public.users (name, email, password, api_key, plan, is_admin, created_at, updated_at)
                VALUES (\(account.name), \(account.email), \(account.passwordHash), \(account.apiKey),
                        \(account.plan), \(account.isAdmin), date_trunc('second', \(now) AT TIME ZONE 'UTC'),
                        date_trunc('second', \(now) AT TIME ZONE 'UTC'))
                RETURNING id
                """)[0].decode(0, as: Int64.self)
        }
    }

    /// Runs `body`, and turns a refusal by Laravel's table into an error for the client.
    static func explainingRefusal<T>(_ body: () throws -> T) throws -> T {
        do {
            return try body()
        } catch let error as PostgresError {
            throw refusals[error.constraint ?? error.sqlState ?? ""] ?? error
        }
    }

    /// The errors by constraint, or by SQLSTATE where there is no constraint.
    private static let refusals: [String: AppError] = [
        "users_email_unique": AppError(.conflict, "A user with this e-mail exists.", cause: .emailTaken),
        "users_api_key_unique": AppError(.conflict, "A user has this key.", cause: .keyTaken),
        "users_plan_check": AppError(.invalid, "The plan is one of starter, pro, agency."),
        "users_status_check": AppError(.invalid, "The status is active or suspended."),
        "22001": AppError(.invalid, "A name, an e-mail and a key have at most 255 characters."),
    ]

    /// The user `id`, even if soft-deleted, because their usage is kept.
    ///
    /// - Throws: ``AppError`` `.notFound`.
    package static func require(_ id: Int64, _ connection: Connection) throws -> Account {
        let rows = try connection.query("SELECT \(Account.columns) FROM public.users u WHERE u.id = \(id)")
        guard let row = rows.first else { throw AppError(.notFound, "There is no user with this id.") }
        return try Account(row)
    }

    /// The names of those of the users `ids` who are in the table, soft-deleted ones too.
    ///
    /// - Throws: ``PostgresError``.
    package static func names(of ids: [Int64], _ connection: Connection) throws -> [Int64: String] {
        let rows = try connection.query(
            "SELECT u.id, \(UserColumn.name) FROM public.users u WHERE u.id = ANY(\(ids)::bigint[])")
        return try rows.reduce(into: [:]) { names, row in
            let (id, name) = try row.decode(Int64.self, String.self)
            names[id] = name
        }
    }

    /// Requires that the user exists and is not soft-deleted, before something of theirs is changed.
    ///
    /// - Throws: ``AppError`` `.notFound`.
    static func requirePresent(_ id: Int64, _ connection: Connection) throws {
        let rows = try connection.query("SELECT FROM public.users u WHERE u.id = \(id) AND \(SoftDeletes.isPresent)")
        if rows.isEmpty { throw AppError(.notFound, "There is no user with this id.") }
    }

    /// The id of the user with exactly this e-mail address. A soft-deleted user is not found.
    ///
    /// - Throws: ``AppError`` `.notFound`.
    package static func requireID(email: String, _ connection: Connection) throws -> Int64 {
        let rows = try connection.query(
            "SELECT u.id FROM public.users u WHERE u.email = \(email) AND \(SoftDeletes.isPresent)")
        guard let row = rows.first else { throw AppError(.notFound, "No user has this e-mail.") }
        return try row.decode(0)
    }

    /// A page of all users, in the order of their ids.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(_ connection: Connection, after id: Int64 = 0, limit: Int = 1000) throws -> [Account] {
        try connection.query(
            "SELECT \(Account.columns) FROM public.users u WHERE u.id > \(id) ORDER BY u.id LIMIT \(limit)"
        ).map(Account.init)
    }

    /// The part of the key of a user `u` that may be shown. It is at most a quarter of the key.
    static let keyPrefix: Query = "left(u.api_key, least(7, length(u.api_key) / 4))"

    /// Gives a user a new key. Calls that were made with the old key still find the user.
    ///
    /// - Parameters:
    ///   - id: Laravel's id of the user.
    ///   - key: The new key.
    ///   - connection: A connection without an open transaction.
    ///   - now: The time of the change.
    ///   - transaction: Runs the change in a transaction, together with other changes of the caller.
    /// - Returns: The account as it is now.
    /// - Throws: ``AppError`` `.notFound`; `.conflict` when a user has this key.
    package static func rotateKey(
        _ id: Int64, to key: String, _ connection: Connection, now: Timestamp,
        in transaction: (Connection, (Connection) throws -> Account) throws -> Account = {
            try $0.transaction(.readWrite, $1)
        }
    ) throws -> Account {
        let account = try explainingRefusal {
            try transaction(connection) { connection in
                try requirePresent(id, connection)
                // The old key enters our history before it leaves Laravel's table, even if two keys are set at once.
                let old = try connection.query("SELECT api_key FROM public.users WHERE id = \(id) FOR NO KEY UPDATE")
                try KeyHistory.syncInTransaction(
                    for: old.compactMap { try $0.decode(0, as: String?.self) }, connection, now: now)
                try connection.execute(
                    """
                    UPDATE public.users SET api_key = \(key),
                        updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                    WHERE id = \(id)
                    """)
                return try require(id, connection)
            }
        }
        remember(key, connection, now: now)
        return account
    }

    /// Records a user's new key. A failure is ignored, because the key must be shown to the user. The next key sync or
    /// the key's first call records it then.
    static func remember(_ key: String, _ connection: Connection, now: Timestamp) {
        _ = try? KeyHistory.sync(for: [key], connection, now: now)
    }
}

/// Accounts that were registered. Until the email address is verified, every limit is zero.
///
/// Every statement that reads a limit uses ``isUnverified`` and ``limit(_:unless:)``: `authorize`, the API and the
/// projection into `rate_limits`.
package enum Registration {
    /// What `POST /api/auth/register` does; the setting `ADMIN_REGISTRATION`.
    package enum Mode: String, Sendable, CaseIterable {
        /// It is refused.
        case off
        /// It makes an account whose limits are zero until `users.email_verified_at` is set.
        case verified
        /// It makes an account with the limits of its plan, as Laravel's does.
        case open
    }

    /// Whether the limits of a user `u` are still zero. The subquery runs only where Laravel's column is NULL.
    static let isUnverified: Query = """
        (u.email_verified_at IS NULL
         AND EXISTS (SELECT FROM metering.unverified_registrations g WHERE g.user_id = u.id))
        """

    /// The limit in force: zero where `isUnverified` is true, else `limit`.
    static func limit(_ limit: Query, unless isUnverified: Query = isUnverified) -> Query {
        "CASE WHEN \(isUnverified) THEN 0 ELSE \(limit) END"
    }

    /// Makes a registered account and records its key, so that its first call finds it.
    ///
    /// - Throws: ``AppError`` as ``UserAccounts/create(_:_:now:)``.
    package static func create(
        _ account: UserAccounts.NewAccount, isVerified: Bool, _ connection: Connection, now: Timestamp
    ) throws -> Int64 {
        let id = try connection.transaction { connection in
            let id = try UserAccounts.insert(account, connection, now: now)
            if !isVerified {
                try connection.execute(
                    "INSERT INTO metering.unverified_registrations (user_id, registered_at) VALUES (\(id), \(now))")
            }
            return id
        }
        UserAccounts.remember(account.apiKey, connection, now: now)
        return id
    }
}

/// Laravel's soft deletes. A user with `users.deleted_at` may do nothing, and their usage is kept.
///
/// Logins, tokens, sessions, keys, reports and changes by operators treat such a user as missing. Events are stored and
/// counted as before, because the calls were served and the row exists. An operator still sees whose usage it is.
enum SoftDeletes {
    /// Whether a user `u` is soft-deleted; false if the table has no such column.
    static let isDeleted: Query = "metering.is_deleted(u.id)"
    /// Whether a user `u` exists and is not soft-deleted.
    static let isPresent: Query = "NOT metering.is_deleted(u.id)"
}
