package import Domain
package import Logging
import Metrics
package import Postgres
import ServiceLifecycle
import Synchronization

/// The background jobs that keep counters, keys and quarantine up to date.
package enum BackgroundJobs {
    /// All jobs, for a service that ingests. Several processes may run them at once.
    package static func all(
        pool: ConnectionPool, writer: EventWriter, logger: Logger, now: @escaping @Sendable () -> Timestamp
    ) -> [BackgroundJob] {
        let (projection, newestKeys, allKeys, gauges) = (
            Throttle(every: .seconds(1)), Throttle(every: .milliseconds(500)), Throttle(every: .seconds(3)),
            Throttle(every: .seconds(30))
        )
        let spools = Throttle(every: .seconds(30))
        // Users whose row of rate_limits was locked. The next round tries them again.
        let postponed = Mutex<[Int64]>([])
        let replay = QuarantineReplay(pool: pool, writer: writer, now: now)
        return [
            BackgroundJob("quota", .effect(within: .milliseconds(900)), logger: logger) {
                try await pool.withConnection { connection in
                    let counted = try QuotaCounters.addDeltas(connection, now: now())
                    let users = Set(counted).union(postponed.withLock(\.self)).sorted()
                    guard !users.isEmpty else { return }
                    postponed.withLock { $0 = users }
                    let left = try RateLimitProjection.project(connection, .users(users), now: now())
                    postponed.withLock { $0 = left }
                }
            },
            BackgroundJob("rate_limits", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try projection.whenDue(at: now()) {
                        try RateLimitProjection.project(connection, .all, now: now())
                    }
                }
            },
            BackgroundJob("keys", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try newestKeys.whenDue(at: now()) { try KeyHistory.syncNewest(connection, now: now()) }
                    try allKeys.whenDue(at: now()) { try KeyHistory.sync(connection, now: now()) }
                }
            },
            BackgroundJob("quarantine", .pause(.milliseconds(300)), logger: logger) {
                try await replay.replay()
            },
            BackgroundJob("quarantine_gauges", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try gauges.whenDue(at: now()) { try QuarantineGauges.record(connection, now: now()) }
                }
            },
            BackgroundJob("spool_gauges", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try spools.whenDue(at: now()) { try SpoolGauges.record(connection) }
                }
            },
            BackgroundJob("installation", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try Installation.require(connection)
                    try IDLine.look(connection)
                    try Installation.recordHighestIDs(connection)
                }
            },
        ]
    }
}

/// Work that a service repeats until it stops. Failures are logged, and the next round tries again.
package struct BackgroundJob: Service {
    /// The rule for the begin of the next round.
    package enum Rhythm: Sendable {
        /// The next round begins this long after the end of the last one.
        case pause(Duration)
        /// A change just after the begin of a round takes effect within this time, if the next round takes as long as
        /// the last. Rounds run as rarely as that allows, because each may write the same rows again.
        case effect(within: Duration)

        /// The pause after a round that took `round`.
        package func pause(after round: Duration) -> Duration {
            switch self {
            case .pause(let pause): pause
            case .effect(let bound): max(bound - round * 2, .milliseconds(50))
            }
        }
    }

    private let name: String
    private let rhythm: Rhythm
    private let logger: Logger
    private let work: @Sendable () async throws -> Void

    /// Work called `name`, which is in snake case and appears in its metrics.
    package init(
        _ name: String, _ rhythm: Rhythm, logger: Logger, _ work: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.rhythm = rhythm
        self.logger = logger
        self.work = work
    }

    /// Repeats until the service is asked to stop. Then it works once more, for what was committed last.
    ///
    /// - Throws: ``Installation/Mismatch``, after which no service must go on.
    package func run() async throws {
        let clock = ContinuousClock()
        try await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                let start = clock.now
                try await round()
                let took = clock.now - start
                Metrics.Timer(label: "background_job_seconds", dimensions: [("work", name)]).record(duration: took)
                try? await Task.sleep(for: rhythm.pause(after: took))
            }
        }
        try await round()
    }

    private func round() async throws {
        do {
            try await work()
        } catch let error as Installation.Mismatch {
            throw error
        } catch {
            guard !Task.isCancelled else { return }
            Counter(label: "background_job_failures_total", dimensions: [("work", name)]).increment()
            logger.warning(
                "background job failed", metadata: ["work": "\(name)", "error": "\(String(reflecting: error))"])
        }
    }
}

/// Limits how often work begins: at most once per `interval`, and so rarely that it takes at most a twentieth of the
/// time, also when tables grow.
package final class Throttle: Sendable {
    private struct State {
        var next = Timestamp(microseconds: .min)
        var lastBegin = Timestamp(microseconds: .min)
    }

    private let interval: Duration
    private let state = Mutex(State())

    /// A throttle for work that begins at most once per `interval`.
    package init(every interval: Duration) {
        self.interval = interval
    }

    /// Runs the work if it is due. The next time is at least twenty times its duration later.
    ///
    /// - Throws: What `work` throws.
    package func whenDue<T>(at now: Timestamp, _ work: () throws -> T) rethrows {
        guard begins(at: now) else { return }
        let start = ContinuousClock.now
        do {
            _ = try work()
            end(took: ContinuousClock.now - start)
        } catch {
            fail(after: ContinuousClock.now - start)
            throw error
        }
    }

    /// Runs the work if it is due. The next time is at least twenty times its duration later.
    ///
    /// - Throws: What `work` throws.
    package func whenDue<T>(
        at now: Timestamp, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> T
    ) async rethrows {
        guard begins(at: now) else { return }
        let start = ContinuousClock.now
        do {
            _ = try await work()
            end(took: ContinuousClock.now - start)
        } catch {
            fail(after: ContinuousClock.now - start)
            throw error
        }
    }

    private func begins(at now: Timestamp) -> Bool {
        state.withLock { state in
            // When the clock was set back, the work must not stop until the clock catches up.
            guard state.next <= now || now < state.lastBegin else { return false }
            state.lastBegin = now
            state.next = now.advanced(by: interval)
            return true
        }
    }

    /// Failed work is due again after twenty times its duration, without the interval.
    private func fail(after duration: Duration) {
        state.withLock { $0.next = $0.lastBegin.advanced(by: duration * 20) }
    }

    private func end(took duration: Duration) {
        state.withLock { state in
            state.next = max(state.next, state.lastBegin.advanced(by: duration * 20))
        }
    }
}
