import Analytics
import Crypto
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// The filled database, which every run copies. It stays on the server for the next run. Its name has the number of
/// events and a digest of the migrations and of ``Filling/edition``.
struct FilledDatabase: Sendable {
    /// The name of the copy.
    static let copy = "bench_run"
    private static let draft = "bench_draft"

    /// Without a statement timeout.
    let server: ConnectionConfiguration
    let rows: Int
    /// How many successive calls are of one user.
    let burst: Int
    let log: @Sendable (String) -> Void

    /// Makes the copy. The original is filled first if it is missing, or if `isFresh`.
    ///
    /// - Throws: ``PostgresError``; ``WrongResult`` when the filled database is not consistent.
    func makeCopy(isFresh: Bool) async throws -> ConnectionConfiguration {
        let migrations = try Migration.load(from: Checkout.migrations)
        let contents = migrations.map(\.checksum).joined() + "\(Filling.edition)"
        let schema = SHA256.hash(data: Data(contents.utf8)).lowercaseHex.prefix(12)
        let original = "bench_\(rows)_\(burst > 1 ? "bursts_" : "")\(schema)"
        try await onServer(server, "DROP DATABASE IF EXISTS \(Self.copy) WITH (FORCE)")
        let existing = try await names()
        // Databases of another schema would never be copied again.
        for name in existing where (isFresh && name == original) || !name.hasSuffix("_\(schema)") {
            try await onServer(server, "DROP DATABASE \(name) WITH (FORCE)")
        }
        if isFresh || !existing.contains(original) { try await makeOriginal(original, migrations) }
        try await onServer(server, "CREATE DATABASE \(Self.copy) TEMPLATE \(original) STRATEGY file_copy")
        return server.database(Self.copy)
    }

    /// Deletes the copy.
    ///
    /// - Throws: ``PostgresError``.
    func removeCopy() async throws {
        try await onServer(server, "DROP DATABASE IF EXISTS \(Self.copy) WITH (FORCE)")
    }

    private func names() async throws -> [String] {
        try await withPool(server) { pool in
            try await pool.withConnection { connection in
                try connection.query("SELECT datname FROM pg_database WHERE datname ~ '^bench_(\\d+_|draft)'")
                    .map { try $0.decode(0) }
            }
        }
    }

    /// Fills a draft and then renames it, so that a half-filled database is never used.
    private func makeOriginal(_ name: String, _ migrations: [Migration]) async throws {
        try await onServer(server, "CREATE DATABASE \(Self.draft) TEMPLATE template0")
        try await withPool(server.database(Self.draft), connections: 2) { pool in
            _ = try await pool.withConnection { try Migrator(migrations: migrations).migrate($0, now: .now) }
            try await Filling(pool: pool, rows: rows, burst: burst, now: .now, log: log).fill()
        }
        try await onServer(server, "CHECKPOINT")
        try await onServer(server, "ALTER DATABASE \(Self.draft) RENAME TO \(name)")
    }
}

/// Fills a migrated database as a year of service leaves it: logs, events, counters and rollups that agree.
struct Filling: Sendable {
    /// Increase it when the filled data changes, so that no run uses the data of an older version.
    static let edition = 2

    private static let year = 365.0 * 86_400
    /// Events of one transaction.
    private static let chunk = 100_000
    private static let connections = 2

    let pool: ConnectionPool
    let rows: Int
    /// How many successive calls are of one user.
    let burst: Int
    let now: Timestamp
    let log: @Sendable (String) -> Void

    /// Fills the database.
    ///
    /// - Throws: ``WrongResult`` when the filled database is not consistent; ``PostgresError``.
    func fill() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        log("filling a database with \(rows) events; the next run of this size copies it")
        try await pool.withConnection { try BenchUser.insertAll($0, now: now) }
        try await fillEvents()
        log("  counters")
        try await pool.withConnection { connection in
            try fillCounters(connection)
            try RateLimitProjection.project(connection, .all, now: now)
            try connection.execute("SELECT setval('public.api_logs_id_seq', \(rows))")
            try Installation.recordHighestIDs(connection)
        }
        // StoredGrowth finds new events by this index; a scan of the table would displace the caches. BRIN costs ingest
        // almost nothing, because a VACUUM adds new ranges of pages to it.
        try await pool.withConnection {
            try $0.executeScript("CREATE INDEX ON metering.events USING brin (api_log_id)")
        }
        log("  rollups")
        try await pool.withConnection { try $0.executeScript("ANALYZE") }
        _ = try await RollupPass(pool: pool, now: { .now }).run()
        log("  VACUUM")
        try await pool.withConnection { try $0.executeScript("VACUUM (FREEZE, ANALYZE)") }
        try await requireConsistency()
        log("  done after \(((clock.now - start) / .seconds(1)).shown()) s")
    }

    private func fillEvents() async throws {
        let chunks = stride(from: 1, through: rows, by: Self.chunk).map { ($0, min($0 + Self.chunk - 1, rows)) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, chunk) in chunks.enumerated() {
                if index >= Self.connections { try await group.next() }
                let spacing = Self.year / Double(rows)
                let bulk = EventBulk(
                    ids: chunk.0...chunk.1, end: now.advanced(by: .seconds(-spacing * Double(rows - chunk.1))),
                    spacing: spacing, isCounted: true, burst: burst)
                group.addTask { try await pool.withConnection { try bulk.insert($0) } }
                let percent = chunk.0 * 100 / rows
                if percent / 10 > (chunk.0 - Self.chunk) * 100 / rows / 10 { log("  \(percent) %") }
            }
            try await group.waitForAll()
        }
    }

    private func fillCounters(_ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
            SELECT e.user_id, w.period, date_trunc(w.unit, e.occurred_at AT TIME ZONE 'UTC')::date AS window_start,
                   sum(e.quota_tokens), sum(e.quota_requests)
            FROM metering.events e CROSS JOIN (VALUES ('daily', 'day'), ('monthly', 'month')) AS w (period, unit)
            WHERE e.quota_requests > 0
            GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1
            """)
    }

    private func requireConsistency() async throws {
        let wrong = try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT (SELECT count(*) FROM public.api_logs) <> \(rows)
                    OR (SELECT count(*) FROM metering.events) <> \(rows)
                    OR (SELECT sum(requests) FROM metering.rollup_15m WHERE user_id <> 0) <> \(rows)
                    OR (SELECT sum(requests) FROM metering.rollup_15m WHERE user_id = 0) <> \(rows)
                    OR EXISTS (
                        SELECT FROM public.api_logs l LEFT JOIN public.users u ON u.id = l.user_id WHERE u.id IS NULL)
                """)[0].decode(0, as: Bool.self)
        }
        try WrongResult.require(!wrong, "The filled database is not consistent.")
    }
}

/// Many events as ingest stores them: logs and events of random users.
///
/// Four of five are events of LiteLLM, whose keys are in the order of time. The fifth is a documented event with an
/// idempotency key, whose key may be anywhere. A tenth of all are of ``BenchUser/heavyID``.
struct EventBulk: Sendable {
    /// The ids, in the order of time.
    var ids: ClosedRange<Int>
    /// The time of the last event.
    var end: Timestamp
    /// Seconds between two events.
    var spacing: Double
    /// Whether the events count for quotas. The caller then adds them to the counters.
    var isCounted: Bool
    /// How many calls a user makes in a row.
    var burst = 1

    /// Inserts `count` events of the half hour before `now` after the highest id, and returns their ids. They count for
    /// no quota.
    ///
    /// - Throws: ``PostgresError``.
    static func insert(_ count: Int, now: Timestamp, _ connection: Connection) throws -> ClosedRange<Int> {
        try connection.transaction { connection in
            // As each writer: the lock comes before the ids, or a worker would not wait for them.
            try connection.executeScript("LOCK TABLE public.api_logs IN ROW EXCLUSIVE MODE")
            let last = try connection.query(
                "SELECT setval('public.api_logs_id_seq', nextval('public.api_logs_id_seq') - 1 + \(count)::bigint)"
            )[0].decode(0, as: Int.self)
            let ids = (last - count + 1)...last
            let bulk = EventBulk(ids: ids, end: now, spacing: 1_800 / Double(count), isCounted: false)
            try bulk.insert(connection, inTransaction: true)
            return ids
        }
    }

    /// Inserts the events, in a transaction or in the one that is open. Foreign keys are not checked: only users that
    /// exist are referenced.
    ///
    /// - Throws: ``PostgresError``.
    func insert(_ connection: Connection, inTransaction isOpen: Bool = false) throws {
        func atomically(_ body: (Connection) throws -> Void) throws {
            try isOpen ? connection.savepoint(body) : connection.transaction(.readWrite, body)
        }
        try atomically { connection in
            try connection.executeScript("SET LOCAL session_replication_role = replica")
            try connection.execute(
                """
                WITH event AS MATERIALIZED (
                    SELECT e.*,
                           ('{gpt-4,gpt-4o,gpt-4o-mini,claude-sonnet-4,text-embedding-3-small}'::text[])[1 + n % 5]
                               AS model,
                           CASE WHEN e.n % 50 = 0 THEN 'error' ELSE 'success' END AS status,
                           CASE WHEN \(isCounted) AND e.n % 50 > 0 THEN 1 ELSE 0 END AS quota_requests,
                           (0.000001 * (e.input_tokens + 4 * e.output_tokens))::numeric(20, 12) AS cost
                    FROM (
                        SELECT n, date_trunc('milliseconds', \(end) - (\(ids.upperBound)::bigint - n)
                                                                      * make_interval(secs => \(spacing)))
                                   AS occurred_at,
                               CASE WHEN hashint8extended(n, 4) % 10 = 0 THEN \(BenchUser.heavyID)::bigint
                                    ELSE \(BenchUser.firstID)::bigint
                                         + abs(hashint8extended(n / \(burst), 0) % \(BenchUser.count)::bigint)
                               END AS user_id,
                               50 + abs(hashint8extended(n, 1) % 4000) AS input_tokens,
                               1 + abs(hashint8extended(n, 2) % 1000) AS output_tokens
                        FROM generate_series(\(ids.lowerBound)::bigint, \(ids.upperBound)::bigint) n
                    ) e
                ), fact AS (
                    INSERT INTO metering.events (
                        event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens, cached_tokens,
                        reasoning_tokens, duration_ms, billable_digest, quota_tokens, quota_requests, is_stream,
                        is_cache_hit, cost, shape, status, plan, provider, model_group, model, call_type, key_hash)
                    SELECT (CASE WHEN n % 5 = 0 THEN 'ffff' || left(md5(n::text), 28)
                                 ELSE lpad(to_hex((extract(epoch FROM occurred_at) * 1000)::bigint), 12, '0')
                                      || left(md5(n::text), 20) END)::uuid,
                           n, user_id, occurred_at, input_tokens, output_tokens, 0, 0, 1250, hashint8extended(n, 3),
                           quota_requests * (input_tokens + output_tokens), quota_requests, n % 3 = 0, false, cost,
                           CASE WHEN n % 5 = 0 THEN 'documented' ELSE 'litellm' END, status, 'pro',
                           CASE WHEN n % 5 > 0 THEN 'openai' END, model,
                           CASE WHEN n % 5 > 0 THEN 'openai/' || model END,
                           CASE WHEN n % 5 > 0 THEN 'acompletion' END, sha256(user_id::text::bytea)
                    FROM event
                )
                INSERT INTO public.api_logs (
                    id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, created_at,
                    updated_at)
                SELECT n, user_id, model, input_tokens, output_tokens, cost, 1250, status,
                       date_trunc('second', occurred_at AT TIME ZONE 'UTC'),
                       date_trunc('second', occurred_at AT TIME ZONE 'UTC')
                FROM event
                ORDER BY n
                """)
        }
    }
}

/// The users of all benchmarks. Their ids have five digits and their keys 67 characters, so that all events of a
/// template have the same length.
enum BenchUser {
    static let firstID = 10_001
    static let count = 10_000
    /// The user of a tenth of the filled events.
    static let heavyID = firstID
    /// The user that asks about all users.
    static let administratorID = firstID + 1

    /// How often each user occurs.
    enum Distribution: Sendable {
        case uniform
        /// The k-th user has a frequency of k^-1.3. The first one has a quarter of all events.
        case zipf

        static let exponent = 1.3

        /// Draws `number` random ids.
        func draw(_ number: Int, using generator: inout some RandomNumberGenerator) -> [Int] {
            switch self {
            case .uniform: return (0..<number).map { _ in .random(in: firstID..<(firstID + count), using: &generator) }
            case .zipf:
                var sum = 0.0
                let bounds = (1...count).map { rank in
                    sum += 1 / pow(Double(rank), Self.exponent)
                    return sum
                }
                return (0..<number).map { _ in
                    firstID + bounds.firstIndex(above: .random(in: 0..<sum, using: &generator))
                }
            }
        }
    }

    static func key(of id: Int) -> String {
        let digits = String(id)
        return "cf_" + String(repeating: "0", count: 64 - digits.count) + digits
    }

    /// Makes all users as Laravel does, and syncs their keys.
    ///
    /// - Throws: ``PostgresError``.
    static func insertAll(_ connection: Connection, now: Timestamp) throws {
        let ids = Array(firstID..<(firstID + count))
        try connection.execute(
            """
            INSERT INTO public.users (id, name, email, password, api_key, plan, created_at, updated_at)
            SELECT u.id, 'User ' || u.id, 'user' || u.id || '@example.com', 'x', u.key,
                   (ARRAY['starter', 'pro', 'agency'])[1 + u.id % 3], now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
            FROM unnest(\(ids.map(Int64.init))::bigint[], \(ids.map(key))::text[]) AS u (id, key)
            """)
        try connection.execute("SELECT setval('public.users_id_seq', \(firstID + count))")
        try KeyHistory.sync(connection, now: now)
    }
}

extension [Double] {
    /// The position of the first element above `value` in ascending elements, else the last position.
    fileprivate func firstIndex(above value: Double) -> Int {
        var (low, high) = (0, count - 1)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] > value { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
