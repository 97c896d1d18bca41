package import Domain
package import Postgres

/// What administrators do with users; every change is in the audit log.
package struct UserAdministration: Sendable {
    private let actor: AuditActor
    private let now: Timestamp

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
    /// - Throws: ``AppError`` `.notFound`, `.invalid` for values that Laravel's table does not take, `.conflict` when the e-mail
    ///   is taken or no active administrator would be left.
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

    /// Refuses an account's calls from now on. Throws as ``update(_:_:action:_:)``.
    package func suspend(_ id: Int64, _ connection: Connection) throws -> UserAccounts.Account {
        try update(id, UserProfile.Change(status: "suspended"), action: "user.suspend", connection)
    }

    /// Takes an account's calls again. Throws as ``update(_:_:action:_:)``.
    package func activate(_ id: Int64, _ connection: Connection) throws -> UserAccounts.Account {
        try update(id, UserProfile.Change(status: "active"), action: "user.activate", connection)
    }

    /// Says that an account's address is its owner's; an address that is verified already stays as it is.
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

    /// Gives an account another key; calls made under the old one still find their user.
    ///
    /// - Throws: ``AppError`` `.notFound`, `.conflict` when somebody has this key.
    package func setKey(_ id: Int64, to key: String, _ connection: Connection) throws -> UserAccounts.Account {
        try UserAccounts.rotateKey(id, to: key, connection, now: now) {
            try AuditLog.changing(.user(id), "user.key", by: actor, at: now, $0, $1)
        }
    }

    /// Whether a user `u` can administer.
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
                .conflict, "This is the last active administrator. Make another one first, then try again.")
        }
    }
}

extension UserProfile.Change {
    /// Whether it may take the last administrator away.
    fileprivate var weakens: Bool { isAdmin == false || status == "suspended" }
}
