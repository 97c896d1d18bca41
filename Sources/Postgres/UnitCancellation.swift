import CLibPQ
import Dispatch
import Synchronization

/// One closure's stay on a connection; cancellation is addressed to it and to nothing after it.
final class UnitOfWork: Sendable {}

/// Cancels the statement of one unit of work from another thread.
///
/// The lock is held while a cancel request is on its way, so whoever ends the unit waits for it: a late request can never hit
/// the next unit's statement. Only the cancel queue and the connection's own thread take the lock.
final class UnitCancellation: Sendable {
    private struct Running {
        var unit: UnitOfWork
        var target: CancelTarget
    }

    private let running = Mutex<Running?>(nil)
    private let queue = DispatchQueue(label: "postgres.cancel")
    private static let repeatInterval = DispatchTimeInterval.milliseconds(50)

    /// From now on `unit` may be cancelled at `target`.
    func begin(_ unit: UnitOfWork, at target: CancelTarget) {
        running.withLock { $0 = Running(unit: unit, target: target) }
    }

    /// Ends the unit; returns when no cancel request for it is on its way.
    func end() {
        running.withLock { $0 = nil }
    }

    /// Runs `body`, during which no cancel request is sent: for COMMIT and ROLLBACK.
    func shield<T>(_ body: () throws -> T) rethrows -> T {
        let suspended = running.withLock { running in
            defer { running = nil }
            return running
        }
        defer { running.withLock { $0 = suspended } }
        return try body()
    }

    /// Asks PostgreSQL to cancel what `unit` is executing, as long as it runs; returns at once.
    func cancel(_ unit: UnitOfWork) {
        queue.async { self.send(unit) }
    }

    private func send(_ unit: UnitOfWork) {
        let wasRunning = running.withLock { running in
            guard let running, running.unit === unit else { return false }
            running.target.send()
            return true
        }
        // A request that arrives between two statements is ignored by PostgreSQL.
        if wasRunning {
            queue.asyncAfter(deadline: .now() + Self.repeatInterval) { self.send(unit) }
        }
    }
}

/// What is needed to cancel a connection's statement, without the connection.
///
/// Unchecked because libpq promises it: a `PGcancel` is read-only and may be used from any thread.
final class CancelTarget: @unchecked Sendable {
    private let pointer: OpaquePointer

    init?(_ connection: OpaquePointer) {
        guard let pointer = PQgetCancel(connection) else { return nil }
        self.pointer = pointer
    }

    deinit {
        PQfreeCancel(pointer)
    }

    /// Dials PostgreSQL and asks; blocks for that long. A request that fails leaves `statement_timeout` to end the statement.
    func send() {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
            _ = PQcancel(pointer, message.baseAddress, Int32(message.count))
        }
    }
}
