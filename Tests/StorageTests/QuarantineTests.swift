import Domain
import Postgres
import Storage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct QuarantineTests {
    private func rejection(_ reason: QuarantineReason, _ id: UInt64, key: String = "cf_secret") -> IngestItem {
        let event = UsageEvent.sample(id, by: .key(key), at: StorageBench.noon)
        return IngestItem(.failure(Rejection(reason: reason, detail: "why", key: event.key, event: event)))
    }

    @Test func anEntryIsKeptOnceAndWithoutTheKey() async throws {
        try await StorageBench.with { bench in
            for _ in 0..<3 {
                let verdicts = try await bench.writer.write(
                    [rejection(.implausibleCost, 1)], lockedUsers: .quarantine)
                #expect(verdicts == [.quarantined(.implausibleCost)])
            }
            let entry = try await bench.text(
                "SELECT concat_ws('|', count(*), max(reason), max(deliveries)) FROM metering.quarantine")
            #expect(entry == "1|implausible_cost|3")
            let everything = try await bench.text("SELECT string_agg(q::text, '') FROM metering.quarantine q")
            #expect(everything?.contains("cf_secret") == false)
        }
    }

    @Test func aLateDeliveryResolvesTheEntryInTheSameTransaction() async throws {
        try await StorageBench.with { bench in
            let event = UsageEvent.sample(1, by: .key("cf_late"), at: StorageBench.noon)
            #expect(try await bench.write([event]) == [.quarantined(.unknownKey)])
            try await bench.makeUser(key: "cf_late")
            _ = try await bench.write([event])
            #expect(try await bench.text("SELECT resolution FROM metering.quarantine") == "stored")
            #expect(try await bench.replay.replay() == 0)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 1)
        }
    }

    @Test func anEntryIsStoredWhenItsUserAppears() async throws {
        try await StorageBench.with { bench in
            let yesterday = StorageBench.noon.advanced(by: .seconds(-86_400))
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_late"), at: yesterday)])
            _ = try await bench.write([.sample(2, by: .user(1), at: yesterday)])
            try await bench.makeUser(key: "cf_late")
            bench.clock.advance(by: .seconds(2))
            let now = bench.clock.now
            try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
            #expect(try await bench.replay.replay() == 2)
            try await bench.updateCounters()
            #expect(
                try await bench.number(
                    "SELECT requests FROM metering.quota_usage WHERE window_start = '2026-11-22'") == 2)
        }
    }

    @Test func aRefusedEventWithoutAnIdempotencyKeyIsNeverStoredByItself() async throws {
        try await StorageBench.with { bench in
            var event = UsageEvent.sample(1, by: .key("cf_late"), at: StorageBench.noon)
            event.isIdempotent = false
            _ = try await bench.writer.write(
                [IngestItem(.success(event), isRefusedWhenUnknown: true)], lockedUsers: .quarantine)
            try await bench.makeUser(key: "cf_late")
            let now = bench.clock.now
            try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
            #expect(try await bench.replay.replay() == 0)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 0)
        }
    }

    @Test func denialsBeyondTheLimitAreOnlyCounted() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                                 deliveries, is_replayable, next_attempt_at)
                SELECT gen_random_uuid(), 'denied', '', '{}', now(), now(), 1, false, now()
                FROM generate_series(1, 9999)
                """)
            for round in 0..<2 {
                _ = try await bench.writer.write(
                    (0..<3).map { rejection(.denied, UInt64(round * 10 + $0), key: "unknown") },
                    lockedUsers: .quarantine)
            }
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 10_002)
            #expect(
                try await bench.text("SELECT concat(count(*), ' ', sum(calls)) FROM metering.denied_calls") == "1 3")
        }
    }

    @Test func anEntryWhoseKeyNobodyHeldAtTheTimeIsParked() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_old")
            _ = try await bench.write([.sample(1, by: .key("cf_old"), at: StorageBench.noon)])
            try await bench.execute("UPDATE public.users SET api_key = NULL WHERE id = \(user)")
            bench.clock.advance(by: .seconds(10))
            let late = UsageEvent.sample(2, by: .key("cf_old"), at: StorageBench.noon.advanced(by: .seconds(60)))
            _ = try await bench.write([late])
            for _ in 0..<3 { try await bench.replay.replay() }
            #expect(
                try await bench.text("SELECT concat(attempts, ' ', next_attempt_at) FROM metering.quarantine")
                    == "0 infinity")
        }
    }

    @Test func aDiscardedEventThatIsSentAgainIsStored() async throws {
        try await StorageBench.with { bench in
            let event = UsageEvent.sample(1, by: .key("cf_late"), at: StorageBench.noon)
            _ = try await bench.write([event])
            let now = bench.clock.now
            let discarded = try await bench.operator.withConnection {
                try Quarantine.discard(QuarantineFilter(), $0, now: now)
            }
            #expect(discarded == 1)
            // A further delivery that cannot be stored leaves it discarded.
            #expect(try await bench.write([event]) == [.quarantined(.unknownKey)])
            try await bench.makeUser(key: "cf_late")
            #expect(try await bench.heal() == 0)
            #expect(
                try await bench.text("SELECT concat(deliveries, ' ', resolution) FROM metering.quarantine")
                    == "2 discarded")
            guard case .stored(let log) = try await bench.write([event])[0] else {
                Issue.record("not stored")
                return
            }
            #expect(
                try await bench.text("SELECT concat(resolution, ' ', api_log_id) FROM metering.quarantine")
                    == "stored \(log)")
        }
    }
}
