import CLibPQ
import Logging

/// The access of a transaction, and the state of the database that it sees.
package enum TransactionMode: Sendable {
    /// It reads and writes. Each statement sees what was committed before it.
    case readWrite
    /// It only reads, and all statements see one state of the database.
    case snapshot

    /// The statements that begin the transaction, and ask for its mark if a lost COMMIT may have to be looked up.
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
    /// A crash loses data that was not yet written, including transaction ids, and the server gives them out again.
    /// Without this value, another transaction's `committed` would look like ours (`make faults` once lost 62
    /// acknowledged events in this way). Every recovery resets the statistics (PostgreSQL manual, "The Cumulative
    /// Statistics System"). A manual reset only makes an outcome unknown.
    let epoch: String?

    /// Begins a transaction and returns its mark, in one round trip.
    static let begin = "BEGIN; SELECT pg_current_xact_id(), (SELECT stats_reset FROM pg_stat_bgwriter)"

    /// Reads how the transaction ended: its status, and whether the server crashed meanwhile. After a crash, an id that
    /// was not given out again has no status.
    var lookup: Query {
        """
        SELECT now.is_same, CASE WHEN now.is_same OR \(id)::xid8 < pg_snapshot_xmax(pg_current_snapshot())
                                 THEN pg_xact_status(\(id)::xid8) ELSE 'aborted' END
        FROM (SELECT stats_reset::text IS NOT DISTINCT FROM \(epoch as String?) AS is_same FROM pg_stat_bgwriter) now
        """
    }
}

extension Connection {
    /// The end of a transaction whose body succeeded.
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

    /// Runs `body` in a transaction. A lost answer to COMMIT is an outcome, not an error.
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

    /// Runs `body` in a savepoint. Its failure undoes only its own changes, and the transaction goes on.
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

    /// Begins a transaction. Returns its mark if the mode has one.
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

    /// Rolls back. If that fails too, the pool discards the connection because of its state.
    private func rollBack() {
        if !isLost, !isIdle {
            shielded("ROLLBACK")
        }
    }

    private func shielded(_ sql: String) {
        cancellation.shield { _ = try? executeDirectly(sql) }
    }

    /// Marks serialization failures, deadlocks and the refusal of a read-only server as safe to retry.
    private func retryable(_ error: any Error) -> any Error {
        guard var error = error as? PostgresError, ["40001", "40P01", PostgresError.readOnly].contains(error.sqlState)
        else {
            return error
        }
        error.isSafeToRetry = true
        return error
    }
}

extension Connection.CommitOutcome: Sendable where Value: Sendable {}

/// The attempts of a transaction that failed without effect, and the pauses between them.
struct RetryPolicy: Sendable {
    var attempts = 5
    /// The time for which the outcome of a lost COMMIT is looked up.
    var lookupDeadline: Duration = .seconds(5)
    var firstPause: Duration = .milliseconds(10)
    var longestPause: Duration = .milliseconds(250)

    /// The pause after `attempt`, counted from 1. Its maximum doubles each time, and its length is random, so that
    /// transactions that collided do not collide again.
    func pause(after attempt: Int) -> Duration {
        let ceiling = min(longestPause, firstPause * (1 << min(attempt - 1, 10)))
        return ceiling * Double.random(in: 0...1)
    }
}

extension ConnectionPool {
    /// Runs `body` in one transaction, and again after a failure that is safe to retry. So `body` may run several
    /// times, but takes effect once.
    ///
    /// Serialization failures, deadlocks, failed connects and the refusal of a read-only server are retried, bounded
    /// and jittered. A COMMIT whose answer was lost is looked up on another connection.
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

    /// Whether the transaction was committed. Throws `commitOutcomeUnknown` if PostgreSQL does not report it within a
    /// few seconds, or if it crashed meanwhile, because the id may be another transaction's by now.
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
            // It is still in progress (its backend may not have noticed yet) or forgotten, or there is no connection.
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
