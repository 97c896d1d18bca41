import CLibPQ

extension Connection {
    /// A statement that PostgreSQL keeps for this connection.
    struct PreparedStatement {
        var name: String
        /// Whether it was prepared a moment ago, so that it cannot be out of date.
        var isFresh: Bool
    }

    /// The prepared statement of `sql`; `nil` where statements are not prepared.
    func preparedStatement(for sql: String) throws -> PreparedStatement? {
        if let name = statements?.name(for: sql) {
            return PreparedStatement(name: name, isFresh: false)
        }
        // In a failed transaction PostgreSQL neither prepares nor deallocates.
        guard statements != nil, PQtransactionStatus(handle) != PQTRANS_INERROR else { return nil }
        if statements?.takeLeftovers() == true { _ = try executeDirectly("DEALLOCATE ALL") }
        if let evicted = statements?.evict() {
            _ = try executeDirectly("DEALLOCATE \(evicted)")
        }
        guard let name = statements?.makeName() else { return nil }
        _ = try check(PQprepare(handle, name, sql, 0, nil), query: sql)
        statements?.insert(name, for: sql)
        return PreparedStatement(name: name, isFresh: true)
    }

    /// Forgets all statements if `error` says that `statement` no longer fits the tables or is gone, and marks the error as
    /// safe to retry: what changed for one probably changed for others, which one more attempt then prepares anew.
    func note(_ error: any Error, _ statement: PreparedStatement?) -> any Error {
        guard var error = error as? PostgresError, let statement, !statement.isFresh,
            // "cached plan must not change result type", and a statement that somebody deallocated.
            error.sqlState == "0A000" || error.sqlState == "26000"
        else { return error }
        statements?.removeAll()
        error.isSafeToRetry = true
        return error
    }
}
