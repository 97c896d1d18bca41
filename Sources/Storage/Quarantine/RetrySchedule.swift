import Domain
import Postgres
import Synchronization

/// Schedules quarantined events for a retry when the key or user that they wait for exists, or when their user is no
/// longer locked. Parked entries are found by a new key or by their user, and never by a scan of all entries. A million
/// entries of unknown keys cost nothing while no key appears.
final class RetrySchedule: Sendable {
    /// Entries that one statement schedules.
    private static let batch = 10_000
    /// New keys of one round, the newest first. So a new customer never waits for the entries of a first key sync.
    private static let arrivals = 20
    /// Awaited users of one round. More users take turns.
    private static let users = 1_000

    /// The last awaited user of the former round.
    private let lastUser = Mutex(Int64.min)

    /// Runs one round. Each statement is a transaction of its own.
    func schedule(_ connection: Connection, now: Timestamp) throws {
        for arrival in try Self.openArrivals(connection) {
            try Self.schedule(Self.waiting(for: arrival), connection, now: now)
            try Self.close(arrival, connection)
        }
        let free = try freeUsers(connection)
        guard !free.isEmpty else { return }
        let entries: Query =
            "SELECT q.id FROM metering.quarantine q WHERE \(Self.awaitsUser) AND q.user_id = ANY(\(free)::bigint[])"
        try Self.schedule(entries, connection, now: now)
    }

    private static let parked: Query = "q.resolved_at IS NULL AND q.is_replayable AND q.next_attempt_at = 'infinity'"
    private static let awaitsUser: Query = "\(parked) AND q.reason IN ('unknown_user', 'user_locked')"

    /// The entries that wait for one of the keys of `arrival`, which a user held at the time of the event. A documented
    /// numeric `user_id` waits as a user's id, and may turn out to be a key. LATERAL always makes it an index look-up
    /// for each key.
    private static func waiting(for arrival: Int64) -> Query {
        let waits: Query = """
            SELECT q.id FROM metering.quarantine q
            WHERE \(parked)
              AND CASE q.reason WHEN 'unknown_key' THEN metering.key_holder(q.key_hashes, q.occurred_at) IS NOT NULL
                                WHEN 'unknown_user'
                                THEN metering.key_holder(q.key_hashes, q.occurred_at) <> q.user_id END
            """
        return """
            SELECT w.id
            FROM metering.key_arrivals a CROSS JOIN unnest(a.key_hashes) AS k (key_hash)
            CROSS JOIN LATERAL (
                \(waits) AND q.key_hashes[1] = k.key_hash
                UNION ALL
                \(waits) AND q.key_hashes[2] IS NOT NULL AND q.key_hashes[2] = k.key_hash
            ) w
            WHERE a.id = \(arrival)
            """
    }

    /// Arrivals that were never served, and those to be served for the last time. A horizon ahead of all transactions
    /// comes from the server from which this database was restored.
    private static func openArrivals(_ connection: Connection) throws -> [Int64] {
        try connection.query(
            """
            SELECT id FROM metering.key_arrivals
            WHERE horizon IS NULL OR horizon <= pg_snapshot_xmin(pg_current_snapshot())
               OR horizon > pg_snapshot_xmax(pg_current_snapshot())
            ORDER BY id DESC LIMIT \(arrivals)
            """
        ).map { try $0.decode(0, as: Int64.self) }
    }

    private static func schedule(_ entries: Query, _ connection: Connection, now: Timestamp) throws {
        // An entry that is being delivered again is left to the next round, as waiting for it could deadlock. Arrays
        // instead of joins, as the planner overestimates the joins.
        try connection.execute(
            """
            UPDATE metering.quarantine SET next_attempt_at = \(now), attempts = 0
            WHERE id = ANY(ARRAY(
                SELECT q.id FROM metering.quarantine q
                WHERE q.id = ANY(ARRAY(\(entries) LIMIT \(batch))) AND \(parked) FOR UPDATE SKIP LOCKED))
            """)
    }

    /// Deletes an arrival for which no entry waits any more. It waits until every transaction has ended that may have
    /// quarantined an event without seeing the keys. All our transactions have their id from the beginning.
    private static func close(_ arrival: Int64, _ connection: Connection) throws {
        try connection.execute(
            """
            WITH served AS MATERIALIZED (
                SELECT a.id, a.horizon, pg_snapshot_xmin(pg_current_snapshot()) AS oldest,
                       pg_snapshot_xmax(pg_current_snapshot()) AS next
                FROM metering.key_arrivals a
                WHERE a.id = \(arrival) AND NOT EXISTS (\(waiting(for: arrival)))
            ), closed AS (
                DELETE FROM metering.key_arrivals a USING served s WHERE a.id = s.id AND s.horizon <= s.oldest
            )
            UPDATE metering.key_arrivals a SET horizon = s.next
            FROM served s WHERE a.id = s.id AND (s.horizon IS NULL OR s.horizon > s.next)
            """)
    }

    /// The next awaited users that exist and are not locked. The statement jumps from one user to the next in the
    /// index.
    private func freeUsers(_ connection: Connection) throws -> [Int64] {
        let last = lastUser.withLock { $0 }
        let rows = try connection.query(
            """
            WITH RECURSIVE awaited (user_id) AS (
                (SELECT q.user_id FROM metering.quarantine q WHERE \(Self.awaitsUser) AND q.user_id > \(last)
                 ORDER BY q.user_id LIMIT 1)
                UNION ALL
                SELECT (SELECT q.user_id FROM metering.quarantine q WHERE \(Self.awaitsUser) AND q.user_id > a.user_id
                        ORDER BY q.user_id LIMIT 1)
                FROM awaited a WHERE a.user_id IS NOT NULL
            )
            SELECT user_id FROM awaited WHERE user_id IS NOT NULL LIMIT \(Self.users)
            """)
        let users = try rows.map { try $0.decode(0, as: Int64.self) }
        lastUser.withLock { $0 = users.count < Self.users ? .min : users.last ?? .min }
        guard !users.isEmpty else { return [] }
        return try connection.query(
            "SELECT id FROM public.users WHERE id = ANY(\(users)::bigint[]) ORDER BY id FOR KEY SHARE SKIP LOCKED"
        ).map { try $0.decode(0, as: Int64.self) }
    }
}
