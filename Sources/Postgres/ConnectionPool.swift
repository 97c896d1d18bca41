import CoreMetrics
package import Logging
import ServiceLifecycle
import Synchronization

/// The limits of a connection pool.
package struct PoolLimits: Sendable {
    /// The most connections at once. The sum over all processes must stay below the server's `max_connections`.
    package var maxConnections: Int
    /// The time after which a wait for a connection fails with `leaseTimeout`.
    package var leaseDeadline: Duration
    /// The age at which a connection is replaced. Up to a tenth less, at random, so that not all are replaced at once.
    package var maxLifetime: Duration
    /// The time after which an unused connection is closed.
    package var idleTimeout: Duration
    /// The time between two checks of unused connections.
    package var maintenanceInterval: Duration

    /// Limits with these values.
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
/// As a service it closes idle connections regularly, and all of them at shutdown. When PostgreSQL is down, every
/// call fails at once. When it is back, the next call connects.
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

    /// A pool without connections. They are opened when they are needed.
    package init(_ configuration: ConnectionConfiguration, limits: PoolLimits = PoolLimits(), logger: Logger) {
        self.configuration = configuration
        self.limits = limits
        self.logger = logger
        state = Mutex(State(machine: StateMachine(maxConnections: limits.maxConnections)))
    }

    /// Runs `body` with a pool, which is closed at the end, also after an error.
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

    /// Runs `body` with a connection of its own, on the connection's thread. Cancelling the task cancels its statement.
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
        if visit.isServerReadOnly { await perform { $0.maintain(unusedSince: .now, now: .now) } }
        return try visit.result.get()
    }

    /// Closes unused connections until the service group shuts down, and then all of them.
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

    /// Refuses new work, waits for running work, closes every connection and ends its thread.
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
    /// A session for the caller alone, opened if necessary. `perform` gives it back.
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

    /// Runs a step of the state machine and its actions. Waiters that it gives up get `error`.
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
            // This is checked under the lock that the cancellation handler takes too. So no cancellation is missed.
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

    /// Runs a step and resumes its waiters. Returns the sessions to close.
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
