import Analytics
import Domain
import Logging
import Metrics
import Postgres
import ServiceLifecycle
import Storage
import Synchronization

/// The worker as a service: a look every second, a pass when it is due, and a stop between two windows.
struct AggregationService: Service {
    /// Ids after the watermark that start a pass at the next look: reading them costs a reader up to a millisecond, and
    /// rolling up a thousand rows at a time costs a fifth more than ten thousand.
    private static let longTail: Int64 = 1_000
    private static let look: Duration = .seconds(1)

    let pool: ConnectionPool
    let interval: Duration
    let logger: Logger
    let now: @Sendable () -> Timestamp

    /// Works until the service is asked to stop.
    ///
    /// - Throws: ``Installation/Mismatch`` and ``CommitHorizon/CachedSequence``, after which it may not go on; other
    ///   failures are logged, and the next look tries again.
    func run() async throws {
        let isStopping = Mutex(false)
        try await withGracefulShutdownHandler {
            var nextPass = ContinuousClock.now
            while !isStopping.withLock({ $0 }), !Task.isCancelled {
                let isDue = ContinuousClock.now >= nextPass
                let hasWorked = try await round(isDue: isDue) { !isStopping.withLock { $0 } }
                if isDue, hasWorked { nextPass = .now + interval }
                await cancelWhenGracefulShutdown { try? await Task.sleep(for: Self.look) }
            }
        } onGracefulShutdown: {
            isStopping.withLock { $0 = true }
        }
    }

    /// Whether the round came to its end.
    private func round(isDue: Bool, goesOn: @Sendable () -> Bool) async throws -> Bool {
        do {
            let start = ContinuousClock.now
            // Two thirds of the time are ingest's.
            let pass = RollupPass(pool: pool, rest: 2, now: now)
            let tail = try await pool.withConnection { connection in
                let state = try RollupState.read(connection)
                return state.commitHorizon - state.eventWatermark
            }
            let scope: RollupPass.Scope = isDue || tail >= Self.longTail ? .everything : .laravel
            let progress = ProgressReport(of: "rows", logger: logger)
            let outcome = try await pass.run(scope) { outcome in
                progress.update(done: outcome.rows, remaining: Int(outcome.remaining))
                return goesOn()
            }
            progress.end()
            if isDue { outcome.log(to: logger) }
            Counter(label: "rollup_logs_total").increment(by: outcome.rows)
            Metrics.Timer(label: "rollup_pass_seconds").record(duration: ContinuousClock.now - start)
            return !outcome.isStopped
        } catch let error as Installation.Mismatch {
            throw error
        } catch let error as CommitHorizon.CachedSequence {
            throw error
        } catch {
            guard !Task.isCancelled else { return false }
            logger.warning("a pass failed", metadata: ["error": "\(String(reflecting: error))"])
            return false
        }
    }
}

extension RollupPass.Outcome {
    /// Logs what was rolled up and which transactions it waits for.
    fileprivate func log(to logger: Logger) {
        if rows > 0 { logger.info("rolled up", metadata: ["rows": "\(rows)"]) }
        for writer in waitingFor { logger.notice("waiting for a transaction", metadata: ["writer": "\(writer)"]) }
    }
}
