import CLibPQ

extension Connection {
    /// How a transaction ended whose body succeeded.
    enum CommitOutcome<Value> {
        case committed(Value)
        /// The connection broke during COMMIT.
        case unknown(Value, TransactionMark)
    }

    /// Runs `body` in a transaction, committed if it returns and rolled back if it throws.
    ///
    /// The first error survives a failing ROLLBACK. Throws kind `commitBecameRollback` if `body` swallowed a failed
    /// statement's error, and `commitOutcomeUnknown` if the connection broke during COMMIT.
    package func transaction<T>(_ mode: TransactionMode = .readWrite, _ body: (Connection) throws -> T) throws -> T {
        switch try attemptTransaction(mode, body) {
        case .committed(let value): return value
        case .unknown(_, let mark):
            throw PostgresError(.commitOutcomeUnknown(mark.id), "connection lost in COMMIT", query: "COMMIT")
        }
    }

    /// Runs `body` in a transaction; a COMMIT lost on the way is an outcome, not an error.
    func attemptTransaction<T>(_ mode: TransactionMode, _ body: (Connection) throws -> T) throws -> CommitOutcome<T> {
        try requireReady()
        guard isIdle else { throw PostgresError(.misuse, "a transaction is already open; use a savepoint") }
        let mark = try begin(mode)
        let value: T
        do {
            value = try body(self)
            try requireReady()
            guard !isIdle else { throw PostgresError(.misuse, "the transaction was ended by its body") }
        } catch {
            rollBack()
            throw retryable(error)
        }
        do {
            try commit()
            return .committed(value)
        } catch let error as PostgresError where error.kind == .connectionLost {
            guard let mark else { throw error }
            return .unknown(value, mark)
        } catch {
            throw retryable(error)
        }
    }

    /// Runs `body` so that its failure undoes only what it did, and the surrounding transaction goes on.
    package func savepoint<T>(_ body: (Connection) throws -> T) throws -> T {
        try requireReady()
        savepointDepth += 1
        defer { savepointDepth -= 1 }
        let name = "sp\(savepointDepth)"
        _ = try executeDirectly("SAVEPOINT \(name)")
        do {
            let value = try body(self)
            try requireReady()
            _ = try executeDirectly("RELEASE SAVEPOINT \(name)")
            return value
        } catch {
            shielded("ROLLBACK TO SAVEPOINT \(name); RELEASE SAVEPOINT \(name)")
            throw error
        }
    }

    /// Begins a transaction; its mark if the mode has one.
    private func begin(_ mode: TransactionMode) throws -> TransactionMark? {
        do {
            let result = try executeDirectly(mode.begin)
            return try result.rows(columns: result.columns).first.map { row in
                TransactionMark(id: try row.decode(0), epoch: try row.decode(1))
            }
        } catch {
            rollBack()
            guard var error = error as? PostgresError, error.kind == .connectionLost else { throw error }
            error.isSafeToRetry = true
            throw error
        }
    }

    private func commit() throws {
        let tag = try cancellation.shield { try executeDirectly("COMMIT").commandTag }
        // PostgreSQL answers COMMIT of a failed transaction with success and this tag.
        guard tag != "ROLLBACK" else {
            throw PostgresError(.commitBecameRollback, "COMMIT was answered with ROLLBACK", query: "COMMIT")
        }
    }

    /// Rolls back what is open; if that fails too, the state of the connection tells, and the pool discards it.
    private func rollBack() {
        if !isLost, !isIdle {
            shielded("ROLLBACK")
        }
    }

    private func shielded(_ sql: String) {
        cancellation.shield { _ = try? executeDirectly(sql) }
    }

    /// Marks what PostgreSQL asks to be run again: serialization failures and deadlocks.
    private func retryable(_ error: any Error) -> any Error {
        guard var error = error as? PostgresError, ["40001", "40P01"].contains(error.sqlState) else { return error }
        error.isSafeToRetry = true
        return error
    }
}

extension Connection.CommitOutcome: Sendable where Value: Sendable {}
