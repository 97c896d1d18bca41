package import Domain
package import Postgres

extension AppError {
    /// What a client may know of a database failure (`notes-swift.md` §5.4, `style.md` §7); `nil` for an internal error.
    ///
    /// Temporary trouble is ``Code/unavailable`` with a `Retry-After`, so that a sender tries the same body again.
    package init?(_ error: PostgresError) {
        if error.isTransient || error.kind == .cancelled || error.sqlState == "57014" {
            self.init(.unavailable, "The database is unavailable. Send the same request again.", retryAfter: 1)
        } else {
            return nil
        }
    }
}
