package import Domain
package import Postgres

extension AppError {
    /// What a client may know of a database failure (`notes-swift.md` §5.4, `style.md` §7); `nil` for an internal error.
    ///
    /// Temporary trouble is ``Code/unavailable`` with a `Retry-After`, so that a sender tries the same body again.
    package init?(_ error: PostgresError) {
        if error.isRowSecurity {
            self.init(
                .unavailable,
                "Row-level security hides rows of the database from this service, so it cannot answer. Send the same request "
                    + "again after its operator has corrected that; 'codexflow doctor' says how.", retryAfter: 10)
        } else if error.isTransient || error.kind == .cancelled || error.sqlState == "57014" {
            self.init(.unavailable, "The database is unavailable. Send the same request again.", retryAfter: 1)
        } else {
            return nil
        }
    }
}
