package import Domain
package import Postgres

extension Query.StringInterpolation {
    /// A moment, as a `timestamptz` exact to the microsecond (through the integer, not through `to_timestamp`'s double).
    package mutating func appendInterpolation(_ timestamp: Timestamp) {
        appendLiteral("('epoch'::timestamptz + ")
        appendInterpolation(timestamp.microseconds)
        appendLiteral("::bigint * interval '1 microsecond')")
    }

    /// SQL that turns a `timestamptz` into microseconds since 1970; NULL for NULL, for infinity and for what is outside
    /// of the years 1 to 9999, which no text of ours can say.
    mutating func appendInterpolation(microseconds expression: String) {
        appendInterpolation(
            unsafeSQL: """
                CASE WHEN \(expression) >= '0001-01-01Z' AND \(expression) <= '9999-12-31 23:59:59.999999Z'
                     THEN (extract(epoch FROM \(expression)) * 1000000)::bigint END
                """)
    }
}

extension Money: PostgresDecodable {
    /// Reads a `numeric`.
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text else { return nil }
        self.init(String(decoding: text, as: UTF8.self))
    }
}

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
