import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// One event's trouble is its own (`design.md` §1.4).
@Suite(.timeLimit(.minutes(15))) struct IsolationTests {
    @Test func aLockedAndADeletedUserTouchNobodyElse() async throws {
        try await Ledger.with { ledger in
            let (free, deleted, locked) = (
                try await ledger.makeUser(), try await ledger.makeUser(), try await ledger.makeUser()
            )
            try await ledger.execute("DELETE FROM public.users WHERE id = \(deleted)")
            let events = (0..<98).map { UsageEvent.sample($0, by: .user(free), at: Ledger.noon) }
            let batch =
                events + [
                    .sample(98, by: .user(deleted), at: Ledger.noon), .sample(99, by: .user(locked), at: Ledger.noon),
                ]
            let lock = try await OpenTransaction.begin(ledger.pool) { connection in
                try connection.execute("SELECT FROM public.users WHERE id = \(locked) FOR UPDATE")
            }
            let verdicts = try await ledger.write(batch)
            #expect(verdicts[98] == .quarantined(.unknownUser))
            #expect(verdicts[99] == .quarantined(.userLocked))
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs") == 98)

            let replay = QuarantineReplay(pool: ledger.service, writer: ledger.writer, now: { ledger.clock.now })
            #expect(try await replay.replay() == 0)
            try await lock.end()
            ledger.clock.advance(by: .seconds(2))
            #expect(try await replay.replay() == 1)
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs WHERE user_id = \(locked)") == 1)
            #expect(try await replay.replay() == 0)
        }
    }

    @Test func oneUnstorableEventIsFoundByBisection() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            // What Laravel might add one day: a rule that one of our events breaks.
            try await ledger.execute("ALTER TABLE public.api_logs ADD CHECK (model <> 'forbidden')")
            var events = (0..<64).map { UsageEvent.sample($0, by: .user(user), at: Ledger.noon) }
            events[37].model = "forbidden"
            let verdicts = try await ledger.write(events)
            #expect(verdicts[37] == .quarantined(.laravelUnavailable))
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs") == 63)
            #expect(try await ledger.number("SELECT count(*) FROM metering.events") == 63)
        }
    }

    @Test func aNewMandatoryColumnParksEventsUntilItIsGone() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            try await ledger.execute("ALTER TABLE public.api_logs ADD COLUMN region text NOT NULL")
            let events = (0..<3).map { UsageEvent.sample($0, by: .user(user), at: Ledger.noon) }
            let verdicts = try await ledger.write(events)
            #expect(verdicts == Array(repeating: .quarantined(.laravelUnavailable), count: 3))

            try await ledger.execute("ALTER TABLE public.api_logs DROP COLUMN region")
            let replay = QuarantineReplay(pool: ledger.service, writer: ledger.writer, now: { ledger.clock.now })
            #expect(try await replay.replay() == 3)
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs") == 3)
            try await ledger.settleCounters()
            #expect(try await ledger.number("SELECT sum(used_requests) FROM rate_limits WHERE period = 'daily'") == 3)
        }
    }

    @Test func nobodyIsAttributedAfterMigrateFresh() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            try await ledger.execute("UPDATE metering.installation SET users_table = 1")
            await #expect(throws: Installation.Mismatch.self) {
                try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            }
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs") == 0)
        }
    }
}
