import CLibPQ
import Dispatch
import Glibc
import Logging
import Synchronization

/// A connection and its thread. Closures run on it one at a time.
actor ConnectionSession {
    /// The result of a unit of work, and whether the connection is usable after it.
    struct Visit<Value: Sendable>: Sendable {
        var result: Result<Value, any Error>
        var isReusable: Bool
        /// Whether the server took no writes, so that other sessions with it are of no use either.
        var isServerReadOnly = false
    }

    nonisolated let expiry: ContinuousClock.Instant
    private nonisolated let thread: ConnectionThread
    private nonisolated let cancellation = UnitCancellation()
    private let configuration: ConnectionConfiguration
    private let logger: Logger
    private var connection: Connection?

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// Starts the thread; throws `PostgresError` of kind `connectFailed` if the system has none to give.
    init(_ configuration: ConnectionConfiguration, expiry: ContinuousClock.Instant, logger: Logger) throws {
        self.configuration = configuration
        self.expiry = expiry
        self.logger = logger
        thread = try ConnectionThread()
    }

    /// Opens the connection.
    ///
    /// - Throws: ``PostgresError`` `.connectFailed`.
    func open() throws {
        connection = nil
        connection = try Connection.open(configuration, cancellation: cancellation, logger: logger)
    }

    /// Runs `body` on the connection's thread. Cancelling the calling task cancels its statements.
    nonisolated func visit<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async -> Visit<T> {
        let unit = UnitOfWork()
        return await withTaskCancellationHandler {
            await run(unit, body)
        } onCancel: {
            cancellation.cancel(unit)
        }
    }

    /// Closes the connection and ends the thread. No closure may run afterwards.
    nonisolated func close() async {
        await disconnect()
        thread.stop()
    }

    private func disconnect() {
        connection = nil
    }

    private func run<T: Sendable>(_ unit: UnitOfWork, _ body: @Sendable (Connection) throws -> T) -> Visit<T> {
        do {
            let connection = try liveConnection()
            cancellation.begin(unit, at: connection.cancelTarget)
            let result = Result { try body(connection) }
            cancellation.end()
            return conclude(result, on: connection)
        } catch {
            return Visit(result: .failure(error), isReusable: false)
        }
    }

    /// The connection, replaced if the server went away while it was unused.
    private func liveConnection() throws -> Connection {
        if let connection, connection.isAlive {
            return connection
        }
        logger.debug("connection to PostgreSQL was lost while unused")
        try open()
        guard let connection else { throw PostgresError(.connectFailed, "no connection") }
        return connection
    }

    private func conclude<T: Sendable>(_ result: Result<T, any Error>, on connection: Connection) -> Visit<T> {
        if connection.isLost || connection.isIdle {
            guard case .failure(let error as PostgresError) = result, error.isReadOnlyServer else {
                return Visit(result: result, isReusable: !connection.isLost && !connection.isUnwanted)
            }
            return Visit(result: result, isReusable: false, isServerReadOnly: true)
        }
        // An open transaction will be rolled back, so its author must get an error.
        let left = PostgresError(.misuse, "a transaction or a statement was left open")
        return Visit(result: result.flatMap { _ in .failure(left) }, isReusable: false)
    }
}

/// An operating-system thread of its own for an actor. A blocking call there blocks no other task.
final class ConnectionThread: SerialExecutor {
    private let jobs = Mutex<[UnownedJob]>([])
    private let isStopping = Atomic(false)
    private let available = DispatchSemaphore(value: 0)
    private let handle = Mutex<pthread_t?>(nil)

    /// Starts the thread; throws `connectFailed` if the system has none to give.
    init() throws {
        var created = pthread_t()
        let reference = Unmanaged.passRetained(self)
        let status = pthread_create(
            &created, nil,
            { argument in
                if let argument {
                    Unmanaged<ConnectionThread>.fromOpaque(argument).takeRetainedValue().work()
                }
                return nil
            }, reference.toOpaque())
        guard status == 0 else {
            reference.release()
            throw PostgresError(.connectFailed, "cannot start a thread (error \(status))")
        }
        let thread = created
        handle.withLock { $0 = thread }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        available.signal()
    }

    /// Ends the thread after its present jobs, and waits for that. Call it when it has none.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        available.signal()
        let thread = handle.withLock { handle in
            defer { handle = nil }
            return handle
        }
        if let thread {
            pthread_join(thread, nil)
        }
    }

    private func work() {
        while true {
            available.wait()
            let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let job {
                job.runSynchronously(on: asUnownedSerialExecutor())
            } else if isStopping.load(ordering: .acquiring) {
                return
            }
        }
    }
}

/// The run of one closure on a connection. A cancellation names it, and so cannot hit a later one.
final class UnitOfWork: Sendable {}

/// Cancels the statement of one unit of work from another thread.
///
/// The lock is held while a cancel request is on its way, so the end of the unit waits for it. A late request can never
/// hit the next unit's statement. Only the cancel queue and the connection's own thread take the lock.
final class UnitCancellation: Sendable {
    private struct Running {
        var unit: UnitOfWork
        var target: CancelTarget
    }

    private let running = Mutex<Running?>(nil)
    private let queue = DispatchQueue(label: "postgres.cancel")
    private static let repeatInterval = DispatchTimeInterval.milliseconds(50)

    /// Begins the unit. From now on it can be cancelled at `target`.
    func begin(_ unit: UnitOfWork, at target: CancelTarget) {
        running.withLock { $0 = Running(unit: unit, target: target) }
    }

    /// Ends the unit. Returns when no cancel request for it is on its way.
    func end() {
        running.withLock { $0 = nil }
    }

    /// Runs `body` without a cancel request meanwhile. It is for COMMIT and ROLLBACK.
    func shield<T>(_ body: () throws -> T) rethrows -> T {
        let suspended = running.withLock { running in
            defer { running = nil }
            return running
        }
        defer { running.withLock { $0 = suspended } }
        return try body()
    }

    /// Asks PostgreSQL to cancel the statement of `unit`, while the unit runs. Returns at once.
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

/// The handle by which another thread cancels a connection's statement.
///
/// It is unchecked because a `PGcancel` is read-only and may be used from any thread (libpq).
final class CancelTarget: @unchecked Sendable {
    private let pointer: OpaquePointer

    init?(_ connection: OpaquePointer) {
        guard let pointer = PQgetCancel(connection) else { return nil }
        self.pointer = pointer
    }

    deinit {
        PQfreeCancel(pointer)
    }

    /// Connects to PostgreSQL and sends the request. It blocks meanwhile. If the request fails, `statement_timeout`
    /// ends the statement.
    func send() {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
            _ = PQcancel(pointer, message.baseAddress, Int32(message.count))
        }
    }
}
