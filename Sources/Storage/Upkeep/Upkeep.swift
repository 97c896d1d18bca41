package import Domain
package import Logging
package import Postgres
import Synchronization

/// The work beside ingest that keeps counters, keys and quarantine current.
package enum Upkeep {
    /// All of it, for a service that ingests. Several processes may do it at once.
    package static func services(
        pool: ConnectionPool, writer: EventWriter, logger: Logger, now: @escaping @Sendable () -> Timestamp
    ) -> [RecurringWork] {
        let (everybody, newest, keys, gauges) = (
            Pace(every: .seconds(1)), Pace(every: .milliseconds(500)), Pace(every: .seconds(3)),
            Pace(every: .seconds(30))
        )
        let spools = Pace(every: .seconds(30))
        // Whose row of rate_limits somebody held: the next round tries again.
        let behind = Mutex<[Int64]>([])
        let replay = QuarantineReplay(pool: pool, writer: writer, now: now)
        return [
            RecurringWork("quota", .effect(within: .milliseconds(900)), logger: logger) {
                try await pool.withConnection { connection in
                    let counted = try QuotaFold.fold(connection, now: now())
                    let users = Set(counted).union(behind.withLock(\.self)).sorted()
                    guard !users.isEmpty else { return }
                    behind.withLock { $0 = users }
                    let left = try RateLimitProjection.project(connection, .users(users), now: now())
                    behind.withLock { $0 = left }
                }
            },
            RecurringWork("rate_limits", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try everybody.whenDue(at: now()) {
                        try RateLimitProjection.project(connection, .all, now: now())
                    }
                }
            },
            RecurringWork("keys", .pause(.milliseconds(300)), logger: logger) {
                try await pool.withConnection { connection in
                    try newest.whenDue(at: now()) { try KeyHistory.lookAtNewest(connection, now: now()) }
                    try keys.whenDue(at: now()) { try KeyHistory.look(connection, now: now()) }
                }
            },
            RecurringWork("quarantine", .pause(.milliseconds(300)), logger: logger) {
                try await replay.replay()
            },
            RecurringWork("quarantine_gauges", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try gauges.whenDue(at: now()) { try QuarantineGauges.record(connection, now: now()) }
                }
            },
            RecurringWork("spool_gauges", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try spools.whenDue(at: now()) { try SpoolGauges.record(connection) }
                }
            },
            RecurringWork("installation", .pause(.seconds(1)), logger: logger) {
                try await pool.withConnection { connection in
                    try Installation.require(connection)
                    try IDLine.look(connection)
                    try Installation.recordHighestIDs(connection)
                }
            },
        ]
    }
}
