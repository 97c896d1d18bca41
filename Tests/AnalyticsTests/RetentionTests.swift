import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// What `prune` removes, and what it must not.
@Suite(.timeLimit(.minutes(30))) struct RetentionTests {
    private static let year: Duration = .seconds(86_400 * 365)

    private func partitions(_ bench: StorageBench) async throws -> Int {
        try await bench.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'metering.events'::regclass")
    }

    @Test func oldMonthsGoWhenTheyAreInTheSums() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            var named = UsageEvent.sample(3, by: .user(user), at: StorageBench.noon)
            named.key = EventKey(high: 0xFFFF_0000_0000_0000, low: 3)
            _ = try await bench.write([
                .sample(1, by: .user(user), at: StorageBench.noon), named,
                .sample(2, by: .user(user), at: StorageBench.noon.advanced(by: .seconds(-86_400 * 60))),
            ])
            let retention = EventRetention(pool: bench.owner)
            let before = try await retention.run(days: 30, now: StorageBench.noon)
            #expect(before.unfolded == ["events_2026_09"])
            #expect(before.months.allSatisfy { $0 < "events_2026_09" })
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 3)
            try await bench.rollUp()
            let usage = try await bench.usage(of: user)
            let later = StorageBench.noon.advanced(by: Self.year)
            let after = try await retention.run(days: 30, now: later)
            #expect(after.months.contains("events_2026_09") && after.months.contains("events_2026_11"))
            #expect(after.rows == 1)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 0)
            #expect(try await bench.usage(of: user) == usage)
            #expect(try await bench.verify().count == 0)
            #expect(
                try await bench.text("SELECT sealed_before FROM metering.rollup_watermark") == "2027-10-01 00:00:00+00")
            // Rows of api_logs whose event is gone are not rolled up again as Laravel's own.
            #expect(try await bench.rollUp().rows == 0)
            try await bench.worker.withConnection { try EventPartitions.ensure($0, now: later) }
            #expect(try await partitions(bench) >= 27)
        }
    }

    @Test func aMonthInUseIsLeftAlone() async throws {
        try await StorageBench.with { bench in
            let reader = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT count(*) FROM metering.events")
            }
            let error = await #expect(throws: PostgresError.self) {
                _ = try await EventRetention(pool: bench.owner).run(
                    days: 30, now: StorageBench.noon.advanced(by: Self.year))
            }
            #expect(error?.sqlState == "55P03")
            try await reader.end()
        }
    }

    @Test func rowsOfApiLogsGoOnlyWhenTheyAreInTheSums() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user, at: "2026-10-01 00:00:00")
            try await bench.writeAsLaravel(user, at: "2026-11-22 23:59:59")
            try await bench.writeAsLaravel(user, at: nil)
            try await bench.rollUp()
            try await bench.writeAsLaravel(user, at: "2026-10-01 00:00:00")
            let usage = try await bench.usage(of: user)
            let deleted = try await LogRetention(pool: bench.owner).run(days: 1, now: StorageBench.noon) { _, _ in }
            #expect(deleted == 1)
            #expect(try await bench.usage(of: user) == usage)
        }
    }

    @Test func onlyClosedEntriesOfTheQuarantineAreForgotten() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                    deliveries,
                                                 is_replayable, next_attempt_at, resolved_at, resolution)
                SELECT gen_random_uuid(), 'unknown_key', '', '{}', '2026-01-01', '2026-01-01', 1, true, '2026-01-01',
                       r, CASE WHEN r IS NOT NULL THEN 'stored' END
                FROM unnest(ARRAY[NULL, '2026-01-02', '2026-11-22']::timestamptz[]) r
                """)
            let deleted = try await bench.pool.withConnection {
                try QuarantineRetention.run(days: 90, now: StorageBench.noon, $0)
            }
            #expect(deleted == 1)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 2)
        }
    }
}
