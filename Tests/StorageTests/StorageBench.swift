import Domain
import Foundation
import Postgres
import Storage
import Synchronization
import TestSupport

/// A database with people in it, a writer whose clock stands still, and what a test asks of both.
///
/// The test speaks through ``pool`` as a superuser; the code under test has ``service``, ``owner``,
/// ``operator``, ``worker`` or ``admin``, with their roles' rights.
struct StorageBench: Queryable {
    /// 2026-11-23T12:00:00Z; the clock of every test until it is moved.
    static let noon = UsageEvent.sampleTime

    let database: TestDatabase
    var pool: ConnectionPool { database.pool }
    /// As `webhook-api` connects.
    var service: ConnectionPool { database.pool(as: .webhook) }
    /// As `codexflow migrate` and `adopt` connect.
    var owner: ConnectionPool { database.pool(as: .owner) }
    /// As the other commands of `codexflow` connect.
    var `operator`: ConnectionPool { database.pool(as: .operator) }
    /// As `aggregation-worker` connects.
    var worker: ConnectionPool { database.pool(as: .worker) }
    /// As `admin-api` connects.
    var admin: ConnectionPool { database.pool(as: .admin) }
    let clock: ManualClock
    let writer: EventWriter

    /// A clock that a test moves.
    final class ManualClock: Sendable {
        private let moment = Mutex(StorageBench.noon)
        var now: Timestamp { moment.withLock { $0 } }
        func advance(by duration: Duration) { moment.withLock { $0 = $0.advanced(by: duration) } }
    }

    /// Gives `body` a migrated database of its own.
    static func with<T: Sendable>(_ body: (StorageBench) async throws -> T) async throws -> T {
        try await withTestDatabase { database in
            let clock = ManualClock()
            let bench = StorageBench(
                database: database, clock: clock,
                writer: EventWriter(pool: database.pool(as: .webhook), now: { clock.now }))
            return try await body(bench)
        }
    }

    /// Makes a user as Laravel would, behind our back.
    @discardableResult
    func makeUser(key: String? = nil, plan: String = "starter", status: String = "active") async throws -> Int64 {
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

    func write(_ events: [UsageEvent]) async throws -> [Verdict?] {
        try await writer.write(events.map { IngestItem(.success($0)) }, lockedUsers: .quarantine)
    }

    /// Folds and projects, as a service does within a second.
    func updateCounters() async throws {
        let now = clock.now
        try await service.withConnection { connection in
            _ = try QuotaCounters.addDeltas(connection, now: now)
            try RateLimitProjection.project(connection, .all, now: now)
        }
    }

    /// The healing of this database's quarantine.
    var replay: QuarantineReplay { QuarantineReplay(pool: service, writer: writer, now: { clock.now }) }

    /// Looks at everybody's keys and replays until nothing more becomes a row, as a service does within seconds;
    /// returns the number of new rows.
    func heal() async throws -> Int {
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
}
