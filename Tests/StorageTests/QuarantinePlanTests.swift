import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The work of each second and the queries of operators use the indexes of a large quarantine.
@Suite(.timeLimit(.minutes(30))) struct QuarantinePlanTests {
    @Test func idleRoundsNeitherScanNorUpdateEntries() async throws {
        try await StorageBench.with { bench in
            try await bench.fillQuarantine()
            for index in 0..<100 { try await bench.makeUser(key: "cf_\(index)") }
            let replay = bench.replay
            let before = try await bench.work()
            let scans = try await bench.sequentialScans {
                for round in 0..<5 {
                    // Keys appear for which no entry waits.
                    if round == 1 {
                        try await bench.service.withConnection { try KeyHistory.sync($0, now: StorageBench.noon) }
                    }
                    try await replay.replay()
                }
            }
            #expect(scans == [:])
            let after = try await bench.work()
            #expect(after.updated == before.updated)
            // Only the round with new keys may read the 5,000 entries that wait for users. Five such rounds would read
            // 25,000.
            #expect(after.fetched - before.fetched < 10_000)
            // No entry waits for the keys. Their arrivals are deleted when the transactions of other tests have ended
            // too.
            let end = ContinuousClock.now + .seconds(30)
            let arrivals: Query = "SELECT count(*) FROM metering.key_arrivals"
            while try await bench.number(arrivals) > 0, ContinuousClock.now < end { try await replay.replay() }
            #expect(try await bench.number(arrivals) == 0)
        }
    }

    @Test func aKeySyncOfTheNewestUsersScansNoBigTable() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO public.users (name, email, password, api_key)
                SELECT 'x', 'x' || g, 'x', 'cf_' || g FROM generate_series(1, 20000) g
                """)
            try await bench.service.withConnection { try KeyHistory.sync($0, now: StorageBench.noon) }
            try await bench.execute("ANALYZE")
            try await bench.makeUser(key: "cf_new")
            let scans = try await bench.sequentialScans {
                for _ in 0..<3 {
                    try await bench.service.withConnection { try KeyHistory.syncNewest($0, now: StorageBench.noon) }
                }
            }
            #expect(scans == [:])
            #expect(try await bench.number("SELECT count(*) FROM metering.api_keys WHERE valid_to IS NULL") == 20_001)
        }
    }

    @Test func anOperatorsPageScansNoQuarantine() async throws {
        try await StorageBench.with { bench in
            try await bench.fillQuarantine()
            let noon = StorageBench.noon
            let filters = [
                QuarantineFilter(), QuarantineFilter(state: .all), QuarantineFilter(reasons: [.unknownUser]),
                QuarantineFilter(reasons: [.unknownUser, .denied]), QuarantineFilter(userID: 1_019_999),
                QuarantineFilter(keyHash: HexPrefix("abcde")), QuarantineFilter(model: "gpt-4"),
                QuarantineFilter(from: noon.advanced(by: .seconds(19_000)), to: noon.advanced(by: .seconds(19_500))),
            ]
            let scans = try await bench.sequentialScans {
                try await bench.operator.withConnection { connection in
                    for filter in filters {
                        let first = try Quarantine.list(filter, limit: 20, connection)
                        guard let last = first.last else { continue }
                        _ = try Quarantine.list(filter, after: last.id, limit: 20, connection)
                        _ = try Quarantine.require(last.id, connection)
                    }
                    let ids = try Quarantine.list(QuarantineFilter(), limit: 5, connection).map(\.id)
                    _ = try Quarantine.discard(QuarantineFilter(ids: ids), connection, now: noon)
                    _ = try Quarantine.discard(QuarantineFilter(reasons: [.denied]), connection, now: noon)
                }
                _ = try await bench.replay.replay(QuarantineFilter(), limit: 50, options: .init(isDryRun: true))
            }
            #expect(scans == [:])
        }
    }
}

extension StorageBench {
    /// 20,000 entries, a second apart. Half wait for keys, a quarter for users, some are denied, a quarter is resolved.
    fileprivate func fillQuarantine() async throws {
        try await execute(
            """
            INSERT INTO metering.quarantine (id, reason, detail, event, key_hashes, user_id, received_at,
                last_received_at,
                                             deliveries, is_replayable, next_attempt_at, resolved_at, resolution)
            SELECT gen_random_uuid(),
                   CASE WHEN g % 100 = 2 THEN 'denied' WHEN g % 2 = 0 THEN 'unknown_key'
                        WHEN g % 4 = 1 THEN 'user_locked' ELSE 'unknown_user' END,
                   '', '{"model": "gpt-4"}',
                   ARRAY[sha256(g::text::bytea)], 1000000 + g,
                       '2026-11-23 12:00Z'::timestamptz + g * interval '1 second', now(), 1,
                   g % 100 <> 2, 'infinity',
                   CASE WHEN g % 4 = 1 THEN now() END, CASE WHEN g % 4 = 1 THEN 'stored' END
            FROM generate_series(1, 20000) g
            """)
        try await execute("VACUUM ANALYZE metering.quarantine")
    }

    /// The numbers of rows of the quarantine that were read and written so far.
    fileprivate func work() async throws -> (updated: Int, fetched: Int) {
        try await execute("SELECT pg_stat_force_next_flush()")
        return try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT n_tup_upd, coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables
                WHERE relid = 'metering.quarantine'::regclass
                """)[0].decode(Int.self, Int.self)
        }
    }
}
