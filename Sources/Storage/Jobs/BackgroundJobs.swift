package import Domain
package import Logging
package import Postgres
import Synchronization

/// The work beside ingest that keeps counters, keys and quarantine current.
package enum BackgroundJobs {
    /// All of it, for a service that ingests. Several processes may do it at once.
    package static func all(
        pool: ConnectionPool, writer: EventWriter, logger: Logger, now: @escaping @Sendable () -> Timestamp
    ) -> [BackgroundJob] {
        let (everybody, newest, keys, gauges) = (
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
                    let counted = try QuotaFold.fold(connection, now: now())
                    let users = Set(counted).union(postponed.withLock(\.self)).sorted()
                    guard !users.isEmpty else { return }
                    postponed.withLock { $0 = users }
                    let left = try RateLimitProjection.project(connection, .users(users), now: now())
                    postponed.withLock { $0 = left }
                }
            },
            BackgroundJob("rate_limits", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try everybody.whenDue(at: now()) {
                        try RateLimitProjection.project(connection, .all, now: now())
                    }
                }
            },
            BackgroundJob("keys", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try newest.whenDue(at: now()) { try KeyHistory.syncNewest(connection, now: now()) }
                    try keys.whenDue(at: now()) { try KeyHistory.sync(connection, now: now()) }
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
