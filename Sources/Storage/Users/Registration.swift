package import Domain
package import Postgres

/// Accounts that strangers made for themselves. While their address is not verified their limits are zero.
///
/// Every statement that reads a limit says so with ``isUnverified`` and ``limit(_:else:)``: `authorize`, the API and
/// the projection into `rate_limits`.
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

    /// Whether a user `u` has no limits yet. A row is looked for only where Laravel's column is NULL.
    static let isUnverified: Query = """
        (u.email_verified_at IS NULL
         AND EXISTS (SELECT FROM metering.unverified_registrations g WHERE g.user_id = u.id))
        """

    /// The limit in force: zero where `isUnverified` is true, else `limit`.
    static func limit(_ limit: Query, unless isUnverified: Query = isUnverified) -> Query {
        "CASE WHEN \(isUnverified) THEN 0 ELSE \(limit) END"
    }

    /// Makes the account of a stranger and remembers its key, so that its first call finds it.
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
