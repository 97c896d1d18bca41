import Analytics
import Domain
import Logging
import Metrics
import Postgres
import ServiceLifecycle
import Storage
import Synchronization

/// The worker as a service. It looks for pending logs several times a second, runs a pass when one is due
/// (``RollupSchedule``), and stops between two windows of rows.
struct AggregationService: Service {
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
            var schedule = RollupSchedule(interval: interval, now: .now)
            while !isStopping.withLock({ $0 }), !Task.isCancelled {
                let pause = try await look(&schedule) { !isStopping.withLock { $0 } }
                await cancelWhenGracefulShutdown { try? await Task.sleep(for: pause) }
            }
        } onGracefulShutdown: {
            isStopping.withLock { $0 = true }
        }
    }

    /// Runs a pass if one is due. Returns how long to wait for the next look.
    private func look(_ schedule: inout RollupSchedule, goesOn: @Sendable () -> Bool) async throws -> Duration {
        do {
            let start = ContinuousClock.now
            let pendingIDs = try await pool.withConnection { try RollupState.pendingIDs($0) }
            guard let scope = schedule.scope(pendingIDs: pendingIDs, at: start) else { return RollupSchedule.pause }
            let outcome = try await rollUp(scope, isDue: schedule.isWholePassDue(at: start), from: start, goesOn)
            guard !outcome.isStopped else { return RollupSchedule.pauseAfterFailure }
            return schedule.pause(afterPassFrom: start, to: .now)
        } catch let error as Installation.Mismatch {
            throw error
        } catch let error as CommitHorizon.CachedSequence {
            throw error
        } catch {
            guard !Task.isCancelled else { return .zero }
            logger.warning("a pass failed", metadata: ["error": "\(String(reflecting: error))"])
            return RollupSchedule.pauseAfterFailure
        }
    }

    /// Runs a pass. Those of the interval are logged; there may be several a second of the others.
    private func rollUp(
        _ scope: RollupPass.Scope, isDue: Bool, from start: ContinuousClock.Instant, _ goesOn: @Sendable () -> Bool
    ) async throws -> RollupPass.Outcome {
        let progress = ProgressReport(of: "rows", logger: logger)
        let counted = Mutex(0)
        let outcome = try await RollupPass(pool: pool, rest: RollupSchedule.rest, now: now).run(scope) { outcome in
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
        return outcome
    }
}

extension RollupPass.Outcome {
    /// Logs how many rows were rolled up and which transactions the pass waits for.
    fileprivate func log(to logger: Logger) {
        if rows > 0 { logger.info("rolled up", metadata: ["rows": "\(rows)"]) }
        for writer in waitingFor { logger.notice("waiting for a transaction", metadata: ["writer": "\(writer)"]) }
    }
}
