import CoreMetrics
package import Logging
import ServiceLifecycle
import Synchronization

/// How many connections a pool may hold, and for how long.
package struct PoolLimits: Sendable {
    /// The most connections at once; the sum over all processes stays below the server's `max_connections`.
    package var maxConnections: Int
    /// How long work waits for a connection before it fails with kind `leaseTimeout`.
    package var leaseDeadline: Duration
    /// The age at which a connection is replaced, less up to a tenth at random so that they do not all go at once.
    package var maxLifetime: Duration
    /// After which an unused connection is closed.
    package var idleTimeout: Duration
    /// How often unused connections are looked at.
    package var maintenanceInterval: Duration

    package init(
        maxConnections: Int = 8, leaseDeadline: Duration = .seconds(5), maxLifetime: Duration = .seconds(3600),
        idleTimeout: Duration = .seconds(600), maintenanceInterval: Duration = .seconds(30)
    ) {
        self.maxConnections = max(1, maxConnections)
        self.leaseDeadline = leaseDeadline
        self.maxLifetime = maxLifetime
        self.idleTimeout = idleTimeout
        self.maintenanceInterval = maintenanceInterval
    }
}

/// A bounded set of connections to one database, opened when they are first needed.
///
/// As a service it closes idle connections now and then, and all of them at shutdown. When PostgreSQL is down every
/// call fails at once; when it is back the next call connects.
package final class ConnectionPool: Service, Sendable {
    typealias StateMachine = PoolStateMachine<ConnectionSession>

    /// A task that waits for a connection, and the timer that ends the wait.
    struct Waiter {
        var continuation: CheckedContinuation<StateMachine.Lease, any Error>
        var deadline: Task<Void, Never>
    }

    struct State {
        var machine: StateMachine
        var waiters: [StateMachine.WaiterID: Waiter] = [:]
        var closers: [CheckedContinuation<Void, Never>] = []
        var nextWaiter = 0
    }

    let configuration: ConnectionConfiguration
    let limits: PoolLimits
    let logger: Logger
    let retries = RetryPolicy()
    private let state: Mutex<State>
    private let connectionGauge = Gauge(label: "postgres_pool_connections")
    private let waiterGauge = Gauge(label: "postgres_pool_waiters")

    package init(_ configuration: ConnectionConfiguration, limits: PoolLimits = PoolLimits(), logger: Logger) {
        self.configuration = configuration
        self.limits = limits
        self.logger = logger
        state = Mutex(State(machine: StateMachine(maxConnections: limits.maxConnections)))
    }

    /// Lends `body` a pool that is closed at the end, however that comes.
    ///
    /// - Throws: What `body` throws.
    package static func withPool<T>(
        _ configuration: ConnectionConfiguration, limits: PoolLimits = PoolLimits(), logger: Logger,
        _ body: (ConnectionPool) async throws -> T
    ) async throws -> T {
        let pool = ConnectionPool(configuration, limits: limits, logger: logger)
        do {
            let result = try await body(pool)
            await pool.close()
            return result
        } catch {
            await pool.close()
            throw error
        }
    }

    /// Runs `body` on a connection of its own, off Swift's shared threads; cancelling the task cancels its statement.
    ///
    /// - Throws: What `body` throws; ``PostgresError`` `.leaseTimeout`, `.connectFailed`, `.cancelled` or
    ///   `.poolClosed`, `.misuse` when `body` leaves a transaction open.
    package func withConnection<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        let session = try await lease()
        let visit = await session.visit(body)
        await perform { machine in
            visit.isReusable
                ? machine.release(session, expiry: session.expiry, now: .now) : machine.retire(session)
        }
        return try visit.result.get()
    }

    /// Closes unused connections until the service group shuts down, and all of them then.
    ///
    /// - Throws: Never; `Service` declares it.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            while (try? await Task.sleep(for: self.limits.maintenanceInterval)) != nil {
                await self.perform { $0.maintain(unusedSince: .now - self.limits.idleTimeout, now: .now) }
            }
        }
        await close()
    }

    /// Refuses new work, waits for what is under way, closes every connection and ends its thread.
    package func close() async {
        await perform(failingWith: PostgresError(.poolClosed, "the pool is closed")) { $0.close() }
        await withCheckedContinuation { continuation in
            let isDrained = state.withLock { state in
                guard state.machine.total > 0 else { return true }
                state.closers.append(continuation)
                return false
            }
            if isDrained {
                continuation.resume()
            }
        }
    }

    /// Changes the state, and sets the gauges.
    func update<T>(_ change: (inout State) -> sending T) -> sending T {
        let (result, total, waiting) = state.withLock { state in
            let result = change(&state)
            return (result, state.machine.total, state.machine.waiterCount)
        }
        connectionGauge.record(total)
        waiterGauge.record(waiting)
        return result
    }
}

extension ConnectionPool {
    /// A session for the caller alone, opened if need be; it comes back through `perform`.
    ///
    /// - Throws: ``PostgresError`` `.leaseTimeout`, `.connectFailed`, `.cancelled` or `.poolClosed`.
    func lease() async throws -> ConnectionSession {
        let waiter = update { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        let lease = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { enqueue($0, as: waiter) }
        } onCancel: {
            fail(waiter, with: PostgresError(.cancelled, "cancelled while waiting for a connection"))
        }
        switch lease {
        case .use(let session): return session
        case .open: return try await open()
        }
    }

    /// Takes a step of the state machine and does what it says; `error` is for the waiters that it gives up.
    func perform(
        failingWith error: PostgresError = PostgresError(.poolClosed, "the pool is closed"),
        _ step: (inout StateMachine) -> StateMachine.Actions
    ) async {
        var retired = resume(failingWith: error, step)
        while let session = retired.popLast() {
            await session.close()
            retired += resume(failingWith: error) { $0.closed() }
        }
    }

    private func enqueue(_ continuation: CheckedContinuation<StateMachine.Lease, any Error>, as waiter: Int) {
        let answer: Result<StateMachine.Lease, any Error>? = update { state in
            guard !state.machine.isClosed else { return .failure(PostgresError(.poolClosed, "the pool is closed")) }
            // Checked under the lock, which the cancellation handler takes too: one of the two sees the other.
            guard !Task.isCancelled else { return .failure(PostgresError(.cancelled, "cancelled before the lease")) }
            if let lease = state.machine.lease(waiter) {
                return .success(lease)
            }
            let deadline = Task {
                guard (try? await Task.sleep(for: limits.leaseDeadline)) != nil else { return }
                fail(waiter, with: PostgresError(.leaseTimeout, "no connection within \(limits.leaseDeadline)"))
            }
            state.waiters[waiter] = Waiter(continuation: continuation, deadline: deadline)
            return nil
        }
        if let answer {
            continuation.resume(with: answer)
        }
    }

    private func fail(_ waiter: Int, with error: PostgresError) {
        let failed = update { state in
            state.machine.removeWaiter(waiter) ? state.waiters.removeValue(forKey: waiter) : nil
        }
        failed?.deadline.cancel()
        failed?.continuation.resume(throwing: error)
    }

    private func open() async throws -> ConnectionSession {
        let expiry = ContinuousClock.now + limits.maxLifetime * Double.random(in: 0.9...1)
        do {
            let session = try ConnectionSession(configuration, expiry: expiry, logger: logger)
            do {
                try await session.open()
            } catch {
                await session.close()
                throw error
            }
            await perform { $0.opened() }
            return session
        } catch {
            let failure = error as? PostgresError ?? PostgresError(.connectFailed, "cannot connect")
            await perform(failingWith: failure) { $0.openFailed() }
            throw failure
        }
    }

    /// Takes a step and answers the waiters it names; the sessions to close.
    private func resume(
        failingWith error: PostgresError, _ step: (inout StateMachine) -> StateMachine.Actions
    ) -> [ConnectionSession] {
        let (actions, granted, failed, closers) = update { state in
            let actions = step(&state.machine)
            let granted = actions.granted.map { (state.waiters.removeValue(forKey: $0.waiter), $0.lease) }
            let failed = actions.failed.map { state.waiters.removeValue(forKey: $0) }
            var closers: [CheckedContinuation<Void, Never>] = []
            if actions.isDrained {
                swap(&closers, &state.closers)
            }
            return (actions, granted, failed, closers)
        }
        for (waiter, lease) in granted {
            waiter?.deadline.cancel()
            waiter?.continuation.resume(returning: lease)
        }
        for waiter in failed {
            waiter?.deadline.cancel()
            waiter?.continuation.resume(throwing: error)
        }
        for closer in closers {
            closer.resume()
        }
        return actions.retired
    }
}
