import Analytics
import Domain
import Logging
import Metrics
import Postgres
import ServiceLifecycle
import Storage
import Synchronization

/// The worker as a service. It looks for pending logs every second, runs a pass when one is due, and stops between two
/// windows of rows.
struct AggregationService: Service {
    /// As many pending ids start a pass at the next look. A reader adds a thousand pending logs in up to a millisecond.
    /// Rolling up a thousand rows at a time costs a fifth more than ten thousand.
    private static let manyPendingIDs: Int64 = 1_000
    private static let pause: Duration = .seconds(1)

    let pool: ConnectionPool
    let interval: Duration
    let logger: Logger
    let now: @Sendable () -> Timestamp

    /// Works until the service is asked to stop. Failures that may pass are logged, and the next look tries again.
    ///
    /// - Throws: ``Installation/Mismatch`` and ``CommitHorizon/CachedSequence``, after which it must not go on.
    func run() async throws {
        let isStopping = Mutex(false)
        try await withGracefulShutdownHandler {
            var nextPass = ContinuousClock.now
            while !isStopping.withLock({ $0 }), !Task.isCancelled {
                let isDue = ContinuousClock.now >= nextPass
                let hasWorked = try await round(isDue: isDue) { !isStopping.withLock { $0 } }
                if isDue, hasWorked { nextPass = .now + interval }
                await cancelWhenGracefulShutdown { try? await Task.sleep(for: Self.pause) }
            }
        } onGracefulShutdown: {
            isStopping.withLock { $0 = true }
        }
    }

    /// Runs a pass if one is due. Returns whether it came to its end.
    private func round(isDue: Bool, goesOn: @Sendable () -> Bool) async throws -> Bool {
        do {
            let start = ContinuousClock.now
            // Two thirds of the time are left to ingest.
            let pass = RollupPass(pool: pool, rest: 2, now: now)
            let pendingIDs = try await pool.withConnection { connection in
                let state = try RollupState.read(connection)
                return state.commitHorizon - state.eventWatermark
            }
            let scope: RollupPass.Scope = isDue || pendingIDs >= Self.manyPendingIDs ? .everything : .laravel
            let progress = ProgressReport(of: "rows", logger: logger)
            let counted = Mutex(0)
            let outcome = try await pass.run(scope) { outcome in
                // Each window is counted when it is committed: a later one may fail.
                let rows = counted.withLock { counted in
                    defer { counted = outcome.rows }
                    return outcome.rows - counted
                }
                Counter(label: "rollup_logs_total").increment(by: rows)
                progress.update(done: outcome.rows, remaining: Int(outcome.remaining))
                return goesOn()
            }
            progress.end()
            if isDue { outcome.log(to: logger) }
            if isDue || outcome.rows > 0 {
                Metrics.Timer(label: "rollup_pass_seconds").record(duration: ContinuousClock.now - start)
            }
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
    /// Logs how many rows were rolled up and which transactions the pass waits for.
    fileprivate func log(to logger: Logger) {
        if rows > 0 { logger.info("rolled up", metadata: ["rows": "\(rows)"]) }
        for writer in waitingFor { logger.notice("waiting for a transaction", metadata: ["writer": "\(writer)"]) }
    }
}
