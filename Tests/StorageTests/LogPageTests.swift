import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Laravel's numbered pages.
@Suite(.timeLimit(.minutes(30))) struct LogPageTests {
    /// Rows of two users over 40 days, some in one second, some without a time.
    private func fill(_ bench: StorageBench, rows: Int, withoutTime: Int) async throws -> Int64 {
        let user = try await bench.makeUser()
        let other = try await bench.makeUser(key: "cf_other")
        try await bench.execute(
            """
            INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                status,
                                         created_at)
            SELECT CASE WHEN g % 5 = 0 THEN \(other)::bigint ELSE \(user) END, 'model-' || g % 3, 1, 1, 0, 0,
                   CASE WHEN g % 7 = 0 THEN 'error' ELSE 'success' END,
                   CASE WHEN g > \(withoutTime) THEN '2026-10-14'::timestamp + g / 3 * interval '1 hour' END
            FROM generate_series(1, \(rows)) g
            """)
        return user
    }

    /// Runs a rollup pass, or none.
    private func aggregate(_ bench: StorageBench) async throws {
        let now = bench.clock.now
        _ = try await RollupPass(pool: bench.worker, now: { now }).run()
    }

    @Test(arguments: [0, 4], [false, true])
    func everyPageHasItsRowsAndTheirNumber(withoutTime: Int, isAggregated: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await fill(bench, rows: 900, withoutTime: withoutTime)
            if isAggregated { try await aggregate(bench) }
            let filters: [(models: [String]?, statuses: [String]?, from: String?, through: String?)] = [
                (nil, nil, nil, nil), (["model-1"], nil, nil, nil), (nil, ["error"], nil, nil),
                (["model-2"], ["error"], "2026-10-17", "2026-10-20"), (nil, nil, "2026-10-20", nil),
                ([], nil, nil, nil),
            ]
            for filter in filters {
                let expected = try await ids(of: user, filter, bench)
                var found: [Int64] = []
                for number in 1...(expected.count / 50 + 2) {
                    let page = try await bench.admin.transaction(.snapshot) { connection in
                        try LogPage.read(
                            of: user, number: number, size: 50, models: filter.models, statuses: filter.statuses,
                            from: filter.from.flatMap { CalendarDate($0) },
                            through: filter.through.flatMap { CalendarDate($0) }, connection)
                    }
                    #expect(page.total == expected.count)
                    found += page.rows.map(\.id)
                }
                #expect(found == expected, "\(filter)")
            }
        }
    }

    private func ids(
        of user: Int64, _ filter: (models: [String]?, statuses: [String]?, from: String?, through: String?),
        _ bench: StorageBench
    ) async throws -> [Int64] {
        try await bench.pool.withConnection { connection in
            try connection.query(
                """
                SELECT id FROM public.api_logs
                WHERE user_id = \(user) AND (\(filter.models)::text[] IS NULL OR model = ANY(\(filter.models)::text[]))
                  AND (\(filter.statuses)::text[] IS NULL OR status = ANY(\(filter.statuses)::text[]))
                  AND (\(filter.from)::date IS NULL OR created_at >= \(filter.from)::date)
                  AND (\(filter.through)::date IS NULL OR created_at < \(filter.through)::date + 1)
                ORDER BY created_at DESC, id DESC
                """
            ).map { try $0.decode(0) }
        }
    }

    @Test func neitherPagesNorListsScanTheRows() async throws {
        try await StorageBench.with { bench in
            let user = try await fill(bench, rows: 30_000, withoutTime: 0)
            try await aggregate(bench)
            try await bench.execute("VACUUM ANALYZE")
            let read = try await bench.rowsRead {
                for number in [1, 200, 470] {
                    _ = try await bench.admin.transaction(.snapshot) {
                        try LogPage.read(of: user, number: number, size: 50, $0)
                    }
                }
                var cursor: LogList.Cursor?
                for _ in 0..<3 {
                    let after = cursor
                    cursor = try await bench.admin.transaction(.snapshot) { connection in
                        let page = try LogList.read(
                            LogFilter(userID: user), by: .time, after: after, limit: 100, connection)
                        _ = try LogEntries.read(page.ids, connection)
                        return page.next
                    }
                }
            }
            #expect(read < 2_000)
        }
    }

    @Test func countingMissingEventsReadsOnlyOpenEntries() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, user_id, occurred_at, received_at,
                                                 last_received_at, deliveries, is_replayable, next_attempt_at,
                                                     resolved_at,
                                                 resolution)
                SELECT gen_random_uuid(), 'denied', '', '{}', CASE WHEN g % 100 = 0 THEN \(user)::bigint
                    ELSE 1000000 + g END,
                       '2026-11-23 10:00', now(), now(), 1, false, now(), CASE WHEN g > 200 THEN now() END,
                       CASE WHEN g > 200 THEN 'discarded' END
                FROM generate_series(1, 20000) g
                """)
            try await bench.execute("VACUUM ANALYZE metering.quarantine")
            let (from, to) = (StorageBench.noon.advanced(by: .seconds(-86_400)), StorageBench.noon)
            var counts: [Int] = []
            let scans = try await bench.sequentialScans {
                for owner in [nil, user] {
                    counts.append(
                        try await bench.service.withConnection {
                            try Quarantine.openCount(of: owner, from: from, to: to, $0)
                        })
                }
            }
            #expect(counts == [200, 2])
            #expect(scans == [:])
        }
    }
}

extension StorageBench {
    /// How many rows of `api_logs` `body` read, by index or scan.
    func rowsRead(of table: String = "api_logs", _ body: () async throws -> Void) async throws -> Int {
        let count: () async throws -> Int = {
            for pool in [pool, admin] {
                _ = try await pool.withConnection { try $0.execute("SELECT pg_stat_force_next_flush()") }
            }
            return try await number(
                """
                SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                WHERE relname LIKE \(table + "%")
                """)
        }
        let before = try await count()
        try await body()
        return try await count() - before
    }
}
