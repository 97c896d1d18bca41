import Postgres

/// What is put aside, as an operator sees and steers it.
package enum Quarantine {
    /// The advisory lock that replays and discards share, so that no entry is replayed while it is discarded, and none by two
    /// processes at once.
    static let lockName: Query = "hashtext('metering.quarantine')"

    /// Waits for the lock; it ends with the transaction.
    static func lock(_ connection: Connection) throws {
        try connection.execute("SELECT pg_advisory_xact_lock(\(lockName))")
    }
}
