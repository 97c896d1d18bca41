import Postgres

/// Laravel's soft deletes: a user with `users.deleted_at` may do nothing, and what they used stays theirs.
///
/// Who asks for such a user gets the answer of a missing one: logins, tokens, sessions, keys, reports, and changes by
/// operators. Their events are counted and stored as before, as the calls were served and the row is there; and an
/// operator still sees whose usage it is.
enum SoftDeletes {
    /// Whether a user `u` is deleted; never, where the table has no such column.
    static let isDeleted: Query = "metering.is_deleted(u.id)"
    /// Whether a user `u` is there for whoever asks.
    static let isPresent: Query = "NOT metering.is_deleted(u.id)"
}
