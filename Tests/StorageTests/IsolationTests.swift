import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// An event that cannot be stored does not affect others.
@Suite(.timeLimit(.minutes(30))) struct IsolationTests {
    @Test func aLockedAndADeletedUserAffectNoOtherUser() async throws {
        try await StorageBench.with { bench in
            let (free, deleted, locked) = (
                try await bench.makeUser(), try await bench.makeUser(), try await bench.makeUser()
            )
            try await bench.execute("DELETE FROM public.users WHERE id = \(deleted)")
            let events = (0..<98).map { UsageEvent.sample($0, by: .user(free), at: StorageBench.noon) }
            let batch =
                events + [
                    .sample(98, by: .user(deleted), at: StorageBench.noon),
                    .sample(99, by: .user(locked), at: StorageBench.noon),
                ]
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT FROM public.users WHERE id = \(locked) FOR UPDATE")
            }
            let verdicts = try await bench.write(batch)
            #expect(verdicts[98] == .quarantined(.unknownUser))
            #expect(verdicts[99] == .quarantined(.userLocked))
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 98)

            let replay = QuarantineReplay(pool: bench.service, writer: bench.writer, now: { bench.clock.now })
            #expect(try await replay.replay() == 0)
            try await lock.end()
            bench.clock.advance(by: .seconds(2))
            #expect(try await replay.replay() == 1)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs WHERE user_id = \(locked)") == 1)
            #expect(try await replay.replay() == 0)
        }
    }

    @Test func oneUnstorableEventIsFoundByBisection() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            // Laravel might add a CHECK that one of our events violates.
            try await bench.execute("ALTER TABLE public.api_logs ADD CHECK (model <> 'forbidden')")
            var events = (0..<64).map { UsageEvent.sample($0, by: .user(user), at: StorageBench.noon) }
            events[37].modelGroup = "forbidden"
            let verdicts = try await bench.write(events)
            #expect(verdicts[37] == .quarantined(.laravelUnavailable))
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 63)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 63)
        }
    }

    @Test func aNewMandatoryColumnParksEventsUntilItIsGone() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("ALTER TABLE public.api_logs ADD COLUMN region text NOT NULL")
            let events = (0..<3).map { UsageEvent.sample($0, by: .user(user), at: StorageBench.noon) }
            let verdicts = try await bench.write(events)
            #expect(verdicts == Array(repeating: .quarantined(.laravelUnavailable), count: 3))

            try await bench.execute("ALTER TABLE public.api_logs DROP COLUMN region")
            let replay = QuarantineReplay(pool: bench.service, writer: bench.writer, now: { bench.clock.now })
            #expect(try await replay.replay() == 3)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 3)
            try await bench.updateCounters()
            #expect(try await bench.number("SELECT sum(used_requests) FROM rate_limits WHERE period = 'daily'") == 3)
        }
    }

    @Test func nobodyIsAttributedAfterMigrateFresh() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("UPDATE metering.installation SET users_table = 1")
            await #expect(throws: Installation.Mismatch.self) {
                try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            }
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 0)
        }
    }
}
