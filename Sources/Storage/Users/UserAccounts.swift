package import Domain
package import Postgres

/// The users of Laravel's table, as an operator sees and makes them.
package enum UserAccounts {
    /// One user; of the key only what cannot be used.
    package struct Account: Sendable, Hashable {
        package let id: Int64
        package let name: String
        package let email: String
        package let plan: String
        package let status: String
        package let isAdmin: Bool
        /// The first 7 characters of the key, or `nil` without one.
        package let keyPrefix: String?
    }

    /// A user to be made, as Laravel's `users` takes it.
    package struct NewAccount: Sendable {
        package var name: String
        package var email: String
        /// `$2y$12$…`, the form that Laravel verifies.
        package var passwordHash: String
        package var apiKey: String
        package var plan: String
        package var isAdmin: Bool

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

    /// Makes a user and remembers the key, so that its first call finds it.
    ///
    /// - Throws: ``AppError`` `.conflict` when the e-mail or key is taken, `.invalid` for a plan that does not exist.
    package static func create(_ account: NewAccount, _ connection: Connection, now: Timestamp) throws -> Int64 {
        do {
            let id = try connection.transaction { connection in
                let rows = try connection.query(
                    """
                    INSERT INTO public.users (name, email, password, api_key, plan, is_admin, created_at, updated_at)
                    VALUES (\(account.name), \(account.email), \(account.passwordHash), \(account.apiKey),
                            \(account.plan), \(account.isAdmin), date_trunc('second', \(now) AT TIME ZONE 'UTC'),
                            date_trunc('second', \(now) AT TIME ZONE 'UTC'))
                    RETURNING id
                    """)
                return try rows.first?.decode(0, as: Int64.self) ?? 0
            }
            remember(account.apiKey, connection, now: now)
            return id
        } catch let error as PostgresError where error.constraint == "users_email_unique" {
            throw AppError(.conflict, "A user with this e-mail exists.")
        } catch let error as PostgresError where error.constraint == "users_plan_check" {
            throw AppError(.invalid, "The plan is one of starter, pro, agency.")
        }
    }

    /// All users in the order of their ids, a page at a time.
    package static func list(_ connection: Connection, after id: Int64 = 0, limit: Int = 1000) throws -> [Account] {
        let rows = try connection.query(
            """
            SELECT id, name, email, plan, status, is_admin, left(api_key, 7)
            FROM public.users WHERE id > \(id) ORDER BY id LIMIT \(limit)
            """)
        return try rows.map { row in
            let (id, name, email, plan, status, isAdmin, prefix) = try row.decode(
                Int64.self, String.self, String.self, String.self, String.self, Bool.self, String?.self)
            return Account(
                id: id, name: name, email: email, plan: plan, status: status, isAdmin: isAdmin, keyPrefix: prefix)
        }
    }

    /// Gives a user a new key; calls made under the old one still find their user.
    ///
    /// - Throws: ``AppError`` `.notFound` when nobody has the e-mail.
    package static func rotateKey(
        email: String, to key: String, _ connection: Connection, now: Timestamp
    ) throws -> Account {
        // The old key is in our history before it leaves Laravel's table.
        let old = try connection.query("SELECT api_key FROM public.users WHERE email = \(email)")
        try KeyHistory.look(
            for: old.compactMap { try $0.decode(0, as: String?.self) }, connection, now: now)
        let account = try connection.transaction { connection in
            let changed = try connection.query(
                """
                UPDATE public.users SET api_key = \(key), updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                WHERE email = \(email)
                RETURNING id
                """)
            guard let id = try changed.first?.decode(0, as: Int64.self),
                let account = try list(connection, after: id - 1, limit: 1).first
            else { throw AppError(.notFound, "No user has this e-mail.") }
            return account
        }
        remember(key, connection, now: now)
        return account
    }

    /// Looks at a key that a user has by now. It must be shown to them whatever comes: a failing look is left to the next
    /// one, or to the key's first call.
    private static func remember(_ key: String, _ connection: Connection, now: Timestamp) {
        _ = try? KeyHistory.look(for: [key], connection, now: now)
    }
}
