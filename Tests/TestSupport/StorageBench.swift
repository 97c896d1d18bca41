package import Domain
internal import Foundation
package import Postgres
package import Storage
internal import Synchronization

/// A database with users, a writer whose clock stands still, and what a test asks of both.
///
/// The test speaks through ``pool`` as a superuser; the code under test has ``service``, ``owner``,
/// ``operator``, ``worker`` or ``admin``, with their roles' rights.
package struct StorageBench: Queryable {
    /// 2026-11-23T12:00:00Z; the clock of every test until it is moved.
    package static let noon = UsageEvent.sampleTime

    package let database: TestDatabase
    package var pool: ConnectionPool { database.pool }
    /// As `webhook-api` connects.
    package var service: ConnectionPool { database.pool(as: .webhook) }
    /// As `codexflow migrate` and `adopt` connect.
    package var owner: ConnectionPool { database.pool(as: .owner) }
    /// As the other commands of `codexflow` connect.
    package var `operator`: ConnectionPool { database.pool(as: .operator) }
    /// As `aggregation-worker` connects.
    package var worker: ConnectionPool { database.pool(as: .worker) }
    /// As `admin-api` connects.
    package var admin: ConnectionPool { database.pool(as: .admin) }
    package let clock: ManualClock
    package let writer: EventWriter

    /// A clock that a test moves.
    package final class ManualClock: Sendable {
        private let moment = Mutex(StorageBench.noon)
        package init() {}

        package var now: Timestamp { moment.withLock { $0 } }
        package func advance(by duration: Duration) { moment.withLock { $0 = $0.advanced(by: duration) } }
    }

    package init(database: TestDatabase, clock: ManualClock, writer: EventWriter) {
        self.database = database
        self.clock = clock
        self.writer = writer
    }

    /// Gives `body` a migrated database of its own.
    package static func with<T: Sendable>(_ body: (StorageBench) async throws -> T) async throws -> T {
        try await withTestDatabase { database in
            let clock = ManualClock()
            let bench = StorageBench(
                database: database, clock: clock,
                writer: EventWriter(pool: database.pool(as: .webhook), now: { clock.now }))
            return try await body(bench)
        }
    }

    /// Makes a user as Laravel would: no program of ours is informed.
    @discardableResult
    package func makeUser(key: String? = nil, plan: String = "starter", status: String = "active") async throws -> Int64
    {
        let email = "\(UUID().uuidString)@example.com"
        return try await pool.withConnection { connection in
            try connection.query(
                """
                INSERT INTO public.users (name, email, password, api_key, plan, status)
                VALUES ('Ada', \(email), 'x', \(key as String?), \(plan), \(status)) RETURNING id
                """
            )[0].decode(0)
        }
    }

    package func write(_ events: [UsageEvent]) async throws -> [Verdict?] {
        try await writer.write(events.map { IngestItem(.success($0)) }, lockedUsers: .quarantine)
    }

    /// Adds the deltas to the counters and sets the rows of `rate_limits`, as a service does within a second.
    package func updateCounters() async throws {
        let now = clock.now
        try await service.withConnection { connection in
            _ = try QuotaCounters.addDeltas(connection, now: now)
            try RateLimitProjection.project(connection, .all, now: now)
        }
    }

    /// The replay of this database's quarantine.
    package var replay: QuarantineReplay { QuarantineReplay(pool: service, writer: writer, now: { clock.now }) }

    /// Syncs all keys and replays until nothing more becomes a row, as a service does within seconds. Returns the
    /// number of new rows.
    package func heal() async throws -> Int {
        let now = clock.now
        try await service.withConnection { try KeyHistory.sync($0, now: now) }
        let replay = replay
        var rows = 0
        while true {
            let new = try await replay.replay()
            if new == 0 { return rows }
            rows += new
        }
    }

    /// The tables, with the number of sequential scans, that `body` read whole although they are big.
    package func sequentialScans(_ body: () async throws -> Void) async throws -> [String: Int] {
        let before = try await scans()
        try await body()
        return try await scans().merging(before) { $0 - $1 }.filter { $0.value > 0 }
    }

    private func scans() async throws -> [String: Int] {
        // A bench used by one task at a time has one session for itself and one for each role, with these counters.
        for pool in [pool, service, worker, admin] {
            _ = try await pool.withConnection { try $0.execute("SELECT pg_stat_force_next_flush()") }
        }
        return try await pool.withConnection { connection in
            let rows = try connection.query(
                """
                SELECT schemaname || '.' || relname, seq_scan FROM pg_stat_user_tables
                WHERE n_live_tup > 5000
                """)
            return Dictionary(
                uniqueKeysWithValues: try rows.map { try $0.decode(String.self, Int.self) as (String, Int) })
        }
    }
}
