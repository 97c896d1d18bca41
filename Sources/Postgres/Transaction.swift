import CLibPQ
import Logging

/// What a transaction may do and which state of the database it sees.
package enum TransactionMode: Sendable {
    /// Reads and writes; each statement sees what was committed before it.
    case readWrite
    /// Only reads, all of one state of the database.
    case snapshot

    /// Begins the transaction in one round trip, and asks for its mark if a lost COMMIT may have to be looked up.
    var begin: String {
        switch self {
        case .readWrite: TransactionMark.begin
        case .snapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        }
    }
}

/// What identifies a transaction, so that a COMMIT whose answer was lost can be looked up.
struct TransactionMark: Sendable, Hashable {
    /// The `xid8`.
    let id: String
    /// When the server last recovered from a crash.
    ///
    /// A crash loses what was not yet written, transaction ids included, and the server gives them out again: without
    /// this, another transaction's `committed` would look like ours (`make faults` lost 62 acknowledged events so). The
    /// statistics are reset by every recovery (PostgreSQL manual, "The Cumulative Statistics System"); a reset by hand
    /// only makes an outcome unknown.
    let epoch: String?

    /// Begins a transaction and answers its mark, in one round trip.
    static let begin = "BEGIN; SELECT pg_current_xact_id(), (SELECT stats_reset FROM pg_stat_bgwriter)"

    /// Asks how the transaction ended: whether no crash came between, and the status. After a crash, an id that was not
    /// given out again belongs to no transaction.
    var lookup: Query {
        """
        SELECT now.is_same, CASE WHEN now.is_same OR \(id)::xid8 < pg_snapshot_xmax(pg_current_snapshot())
                                 THEN pg_xact_status(\(id)::xid8) ELSE 'aborted' END
        FROM (SELECT stats_reset::text IS NOT DISTINCT FROM \(epoch as String?) AS is_same FROM pg_stat_bgwriter) now
        """
    }
}

extension Connection {
    /// How a transaction ended whose body succeeded.
    enum CommitOutcome<Value> {
        case committed(Value)
        /// The connection broke during COMMIT.
        case unknown(Value, TransactionMark)
    }

    /// Runs `body` in a transaction, committed if it returns and rolled back if it throws.
    ///
    /// The first error survives a failing ROLLBACK.
    ///
    /// - Throws: What `body` throws; ``PostgresError``, `.commitBecameRollback` when `body` swallowed a failed
    ///   statement's error, `.commitOutcomeUnknown` when the connection broke during COMMIT.
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
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
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

    /// Rolls back what is open; if that fails too, the state of the connection shows it, and the pool discards it.
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

/// How often a transaction that failed without effect is tried again, and after which pauses.
struct RetryPolicy: Sendable {
    var attempts = 5
    /// How long the outcome of a lost COMMIT is asked for.
    var lookupDeadline: Duration = .seconds(5)
    var firstPause: Duration = .milliseconds(10)
    var longestPause: Duration = .milliseconds(250)

    /// The pause before the attempt after `attempt` (from 1): up to twice as long each time, at random, so that those
    /// who collided once do not collide again.
    func pause(after attempt: Int) -> Duration {
        let ceiling = min(longestPause, firstPause * (1 << min(attempt - 1, 10)))
        return ceiling * Double.random(in: 0...1)
    }
}

extension ConnectionPool {
    /// Runs `body` in one transaction, and again if PostgreSQL asks for it: `body` may run several times, and takes
    /// effect once.
    ///
    /// Serialization failures, deadlocks and failed connects are retried, bounded and jittered. A COMMIT whose answer
    /// was lost is looked up on another connection.
    ///
    /// - Throws: What `body` throws; ``PostgresError``, `.commitOutcomeUnknown` when the outcome stays unknown.
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

    /// Whether the transaction took effect; throws kind `commitOutcomeUnknown` if PostgreSQL does not say within a few
    /// seconds, or if it crashed meanwhile and the id may be another's by now.
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
