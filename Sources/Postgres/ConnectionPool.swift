import CoreMetrics
package import Logging
import ServiceLifecycle
import Synchronization

/// A bounded set of connections to one database, opened when they are first needed.
///
/// As a service it closes idle connections now and then, and all of them at shutdown. When PostgreSQL is down every call fails
/// at once; when it is back the next call connects.
package final class ConnectionPool: Service, Sendable {
    typealias StateMachine = PoolStateMachine<ConnectionSession>

    /// Somebody who waits for a connection, and the clock that ends the wait.
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
    /// Throws what `body` throws, or `PostgresError` of kind `leaseTimeout`, `connectFailed`, `cancelled` or `poolClosed`; of
    /// kind `misuse` if `body` leaves a transaction open.
    package func withConnection<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        let session = try await lease()
        let visit = await session.visit(body)
        await perform { machine in
            visit.isReusable
                ? machine.release(session, expiry: session.expiry, now: .now) : machine.retire(session)
        }
        return try visit.result.get()
    }

    /// Closes connections that nobody uses, until the service group shuts down; then closes all.
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

    /// Changes the state, and tells the gauges.
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
