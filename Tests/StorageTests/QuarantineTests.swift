import Domain
import Postgres
import Storage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(15))) struct QuarantineTests {
    private func rejection(_ reason: QuarantineReason, _ id: UInt64, key: String = "cf_secret") -> IngestItem {
        let event = UsageEvent.sample(id, by: .key(key), at: Ledger.noon)
        return IngestItem(.failure(Rejection(reason: reason, detail: "why", key: event.key, event: event)))
    }

    @Test func anEntryIsKeptOnceAndWithoutTheKey() async throws {
        try await Ledger.with { ledger in
            for _ in 0..<3 {
                let verdicts = try await ledger.writer.write(
                    [rejection(.implausibleCost, 1)], lockedUsers: .quarantine)
                #expect(verdicts == [.quarantined(.implausibleCost)])
            }
            let entry = try await ledger.text(
                "SELECT concat_ws('|', count(*), max(reason), max(deliveries)) FROM metering.quarantine")
            #expect(entry == "1|implausible_cost|3")
            let everything = try await ledger.text("SELECT string_agg(q::text, '') FROM metering.quarantine q")
            #expect(everything?.contains("cf_secret") == false)
        }
    }

    @Test func aLateDeliveryHealsTheEntryInTheSameTransaction() async throws {
        try await Ledger.with { ledger in
            let event = UsageEvent.sample(1, by: .key("cf_late"), at: Ledger.noon)
            #expect(try await ledger.write([event]) == [.quarantined(.unknownKey)])
            try await ledger.makeUser(key: "cf_late")
            _ = try await ledger.write([event])
            #expect(try await ledger.text("SELECT resolution FROM metering.quarantine") == "stored")
            #expect(try await ledger.replay.replay() == 0)
            #expect(try await ledger.number("SELECT count(*) FROM api_logs") == 1)
        }
    }

    @Test func anEntryHealsWhenItsUserAppears() async throws {
        try await Ledger.with { ledger in
            let yesterday = Ledger.noon.advanced(by: .seconds(-86_400))
            _ = try await ledger.write([.sample(1, by: .hash(of: "cf_late"), at: yesterday)])
            _ = try await ledger.write([.sample(2, by: .user(1), at: yesterday)])
            try await ledger.makeUser(key: "cf_late")
            ledger.clock.advance(by: .seconds(2))
            let now = ledger.clock.now
            try await ledger.service.withConnection { try KeyHistory.look($0, now: now) }
            #expect(try await ledger.replay.replay() == 2)
            try await ledger.settleCounters()
            #expect(
                try await ledger.number(
                    "SELECT requests FROM metering.quota_usage WHERE window_start = '2026-11-22'") == 2)
        }
    }

    @Test func aNamelessEventThatWasRefusedNeverBecomesARowByItself() async throws {
        try await Ledger.with { ledger in
            var event = UsageEvent.sample(1, by: .key("cf_late"), at: Ledger.noon)
            event.isNamed = false
            _ = try await ledger.writer.write(
                [IngestItem(.success(event), isRefusedWhenUnknown: true)], lockedUsers: .quarantine)
            try await ledger.makeUser(key: "cf_late")
            let now = ledger.clock.now
            try await ledger.service.withConnection { try KeyHistory.look($0, now: now) }
            #expect(try await ledger.replay.replay() == 0)
            #expect(try await ledger.number("SELECT count(*) FROM api_logs") == 0)
        }
    }

    @Test func denialsBeyondTheLimitAreCountedNotKept() async throws {
        try await Ledger.with { ledger in
            try await ledger.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                                 deliveries, is_replayable, next_attempt_at)
                SELECT gen_random_uuid(), 'denied', '', '{}', now(), now(), 1, false, now()
                FROM generate_series(1, 9999)
                """)
            for round in 0..<2 {
                _ = try await ledger.writer.write(
                    (0..<3).map { rejection(.denied, UInt64(round * 10 + $0), key: "stranger") },
                    lockedUsers: .quarantine)
            }
            #expect(try await ledger.number("SELECT count(*) FROM metering.quarantine") == 10_002)
            #expect(
                try await ledger.text("SELECT concat(count(*), ' ', sum(calls)) FROM metering.denied_calls") == "1 3")
        }
    }

    @Test func anEntryWhoseKeyNobodyHeldAtTheTimeIsParked() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_old")
            _ = try await ledger.write([.sample(1, by: .key("cf_old"), at: Ledger.noon)])
            try await ledger.execute("UPDATE public.users SET api_key = NULL WHERE id = \(user)")
            ledger.clock.advance(by: .seconds(10))
            let late = UsageEvent.sample(2, by: .key("cf_old"), at: Ledger.noon.advanced(by: .seconds(60)))
            _ = try await ledger.write([late])
            for _ in 0..<3 { try await ledger.replay.replay() }
            #expect(
                try await ledger.text("SELECT concat(attempts, ' ', next_attempt_at) FROM metering.quarantine")
                    == "0 infinity")
        }
    }

    @Test func aDiscardedEventThatIsSentAgainBecomesARow() async throws {
        try await Ledger.with { ledger in
            let event = UsageEvent.sample(1, by: .key("cf_late"), at: Ledger.noon)
            _ = try await ledger.write([event])
            let now = ledger.clock.now
            let discarded = try await ledger.operator.withConnection {
                try Quarantine.discard(QuarantineFilter(), $0, now: now)
            }
            #expect(discarded == 1)
            // Sent again in vain it stays discarded, and never becomes a row by itself.
            #expect(try await ledger.write([event]) == [.quarantined(.unknownKey)])
            try await ledger.makeUser(key: "cf_late")
            #expect(try await ledger.heal() == 0)
            #expect(
                try await ledger.text("SELECT concat(deliveries, ' ', resolution) FROM metering.quarantine")
                    == "2 discarded")
            guard case .stored(let log) = try await ledger.write([event])[0] else {
                Issue.record("not stored")
                return
            }
            #expect(
                try await ledger.text("SELECT concat(resolution, ' ', api_log_id) FROM metering.quarantine")
                    == "stored \(log)")
        }
    }
}
