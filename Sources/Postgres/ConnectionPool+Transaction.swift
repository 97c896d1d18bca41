import Logging

extension ConnectionPool {
    /// Runs `body` in one transaction, and again if PostgreSQL asks for it: `body` may run several times, and takes effect once.
    ///
    /// Serialization failures, deadlocks and failed connects are retried, bounded and jittered. A COMMIT whose answer was lost
    /// is looked up on another connection (design.md §3); only if nobody can tell, `commitOutcomeUnknown` is thrown.
    package func transaction<T: Sendable>(
        _ mode: TransactionMode = .readWrite, _ body: @Sendable (Connection) throws -> T
    ) async throws -> T {
        var attempt = 1
        while true {
            do {
                return try await attemptTransaction(mode, body)
            } catch let error as PostgresError where error.isSafeToRetry && attempt < retries.attempts {
                logger.debug(
                    "transaction is tried again",
                    metadata: ["attempt": "\(attempt)", "error": "\(String(reflecting: error))"])
                try await pause(retries.pause(after: attempt), else: error)
                attempt += 1
            }
        }
    }

    private func attemptTransaction<T: Sendable>(
        _ mode: TransactionMode, _ body: @Sendable (Connection) throws -> T
    ) async throws -> T {
        switch try await withConnection({ try $0.attemptTransaction(mode, body) }) {
        case .committed(let value): return value
        case .unknown(let value, let mark):
            guard try await isCommitted(mark) else {
                var error = PostgresError(.connectionLost, "connection lost in COMMIT, which did not take effect")
                error.isSafeToRetry = true
                throw error
            }
            return value
        }
    }

    /// Whether the transaction took effect; throws kind `commitOutcomeUnknown` if PostgreSQL does not say within a few seconds,
    /// or if it crashed meanwhile and the id may be another's by now.
    private func isCommitted(_ mark: TransactionMark) async throws -> Bool {
        let unknown = PostgresError(.commitOutcomeUnknown(mark.id), "connection lost in COMMIT", query: "COMMIT")
        let deadline = ContinuousClock.now + retries.lookupDeadline
        var attempt = 0
        while ContinuousClock.now < deadline {
            attempt += 1
            let answer = try? await withConnection { connection in
                try connection.query(mark.lookup).first?.decode(Bool.self, String?.self)
            }
            switch answer {
            case (true, "committed")?: return true
            case (false, "committed")?: throw unknown
            case (_, "aborted")?: return false
            // Still in progress (its backend may not have noticed yet), forgotten, or no connection to ask.
            default: try await pause(retries.pause(after: attempt), else: unknown)
            }
        }
        throw unknown
    }

    /// Sleeps; throws `error` if the task is cancelled meanwhile.
    private func pause(_ duration: Duration, else error: PostgresError) async throws {
        guard (try? await Task.sleep(for: duration)) != nil else { throw error }
    }
}
