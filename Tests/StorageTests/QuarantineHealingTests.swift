import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Quarantined events are stored once the reason is gone, whatever happens meanwhile.
@Suite(.timeLimit(.minutes(30))) struct QuarantineHealingTests {
    @Test func aScheduledBacklogIsStoredAcrossTheEndOfAMonth() async throws {
        try await StorageBench.with { bench in
            let before = bench.clock.now.advanced(by: .seconds(-23 * 86_400))
            let events = (0..<2_500).map { index in
                UsageEvent.sample(
                    UInt64(index), by: .hash(of: "cf_late"), at: index % 2 == 0 ? StorageBench.noon : before)
            }
            _ = try await bench.write(events)
            try await bench.makeUser(key: "cf_late")
            #expect(try await bench.heal() == 2_500)
            try await bench.updateCounters()
            let windows = try await bench.text(
                """
                SELECT string_agg(concat(period, ' ', window_start, ' ', requests), ', ' ORDER BY period, window_start)
                FROM metering.quota_usage
                """)
            #expect(
                windows
                    == "daily 2026-10-31 1250, daily 2026-11-23 1250, monthly 2026-10-01 1250, monthly 2026-11-01 1250")
        }
    }

    @Test func anEventQuarantinedWhileItsKeyAppearsIsStored() async throws {
        try await StorageBench.with { bench in
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_late"), at: StorageBench.noon)])
            try await bench.execute("CREATE TABLE kept AS SELECT * FROM metering.quarantine")
            try await bench.execute("DELETE FROM metering.quarantine")
            // A delivery that did not see the key commits after the arrival was served.
            let delivery = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("INSERT INTO metering.quarantine SELECT * FROM kept")
            }
            try await bench.makeUser(key: "cf_late")
            let now = bench.clock.now
            try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
            let replay = bench.replay
            for _ in 0..<3 { #expect(try await replay.replay() == 0) }
            try await delivery.end()
            // Other tests' transactions hold the horizon back too.
            try await eventually("the entry becomes a row") { try await replay.replay() == 1 }
        }
    }

    @Test func aLockedEntryIsScheduledLater() async throws {
        try await StorageBench.with { bench in
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_late"), at: StorageBench.noon)])
            let holder = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT FROM metering.quarantine FOR UPDATE")
            }
            try await bench.makeUser(key: "cf_late")
            #expect(try await bench.heal() == 0)
            try await holder.end()
            #expect(try await bench.heal() == 1)
        }
    }

    @Test func aKeyThatWasRecordedWhileNoServiceRanSchedulesItsEntries() async throws {
        try await StorageBench.with { bench in
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_late"), at: StorageBench.noon)])
            try await bench.makeUser(key: "cf_late")
            let now = bench.clock.now
            try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
            bench.clock.advance(by: .seconds(30 * 86_400))
            #expect(try await bench.replay.replay() == 1)
        }
    }

    @Test func laravelsTablesAreProbedHoweverLongTheyRefused() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("ALTER TABLE public.api_logs ADD COLUMN region text NOT NULL")
            _ = try await bench.write((0..<60).map { .sample($0, by: .user(user), at: StorageBench.noon) })
            let replay = bench.replay
            for _ in 0..<20 { #expect(try await replay.replay() == 0) }
            #expect(try await bench.number("SELECT max(attempts) FROM metering.quarantine") == 3)
            try await bench.execute("ALTER TABLE public.api_logs DROP COLUMN region")
            #expect(try await bench.heal() == 60)
        }
    }

    @Test func anEntryThatLaravelAlwaysRefusesDelaysNoOther() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("ALTER TABLE public.api_logs ADD CHECK (model <> 'forbidden')")
            var events = (0..<40).map { UsageEvent.sample($0, by: .user(user), at: StorageBench.noon) }
            for index in 0..<20 { events[index].modelGroup = "forbidden" }
            try await bench.execute("ALTER TABLE public.api_logs ADD COLUMN region text NOT NULL")
            _ = try await bench.write(events)
            try await bench.execute("ALTER TABLE public.api_logs DROP COLUMN region")
            let replay = bench.replay
            for _ in 0..<5 { try await replay.replay() }
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 20)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") == 20)
        }
    }

    @Test func aUserWithoutAKeySchedulesEventsThatNameThem() async throws {
        try await StorageBench.with { bench in
            _ = try await bench.write((1...1_200).map { .sample(UInt64($0), by: .user($0), at: StorageBench.noon) })
            let replay = bench.replay
            #expect(try await replay.replay() == 0)
            try await bench.execute("SELECT setval('users_id_seq', 1100)")
            let user = try await bench.makeUser()
            // More users are awaited than one round checks, so they take turns.
            let rows = try await replay.replay() + replay.replay()
            #expect(rows == 1)
            #expect(try await bench.number("SELECT user_id FROM public.api_logs") == Int(user))
        }
    }

    @Test func replaysAndDeliveriesAtOnceMakeOneRowEach() async throws {
        try await StorageBench.with { bench in
            let events = (0..<600).map { UsageEvent.sample($0, by: .hash(of: "cf_late"), at: StorageBench.noon) }
            _ = try await bench.write(events)
            try await bench.makeUser(key: "cf_late")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for part in 0..<3 {
                    group.addTask { _ = try await bench.write(Array(events[(part * 100)..<(part * 100 + 300)])) }
                }
                for _ in 0..<2 { group.addTask { _ = try await bench.heal() } }
                try await group.waitForAll()
            }
            _ = try await bench.heal()
            try await bench.updateCounters()
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 600)
            #expect(try await bench.number("SELECT requests FROM metering.quota_usage WHERE period = 'daily'") == 600)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") == 0)
        }
    }
}
