import Domain
import Logging
import Postgres
import ServiceLifecycle
import Storage
import TestSupport
import Testing

/// One absurd event, one open transaction or one changed table must not affect other events.
@Suite(.timeLimit(.minutes(30))) struct ResilienceTests {
    @Test func onlyTheEventWithAnImpossibleTimeIsQuarantined() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let good = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            for moment: Int64 in [-1_700_000_000_000_000_000, .min, .max, 9_223_371_999_000_000_000] {
                var absurd = UsageEvent.sample(UInt64(bitPattern: moment), by: .user(user), at: StorageBench.noon)
                absurd.occurredAt = Timestamp(microseconds: moment)
                let rejection = Rejection(reason: .implausibleTime, detail: "why", key: absurd.key, event: absurd)
                let verdicts = try await bench.writer.write(
                    [IngestItem(.failure(rejection)), IngestItem(.success(good))], lockedUsers: .quarantine)
                #expect(verdicts[0] == .quarantined(.implausibleTime))
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 1)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 4)
        }
    }

    @Test func anEventThatCannotBeStoredLeavesAnEntryWithoutFacts() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                "ALTER TABLE metering.quarantine ADD CHECK (event->>'model' IS DISTINCT FROM 'odd')")
            var odd = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            odd.modelGroup = "odd"
            let rejection = Rejection(reason: .implausibleCost, detail: "why", key: odd.key, event: odd)
            let verdicts = try await bench.writer.write(
                [
                    IngestItem(.failure(rejection)),
                    IngestItem(.success(.sample(2, by: .user(user), at: StorageBench.noon))),
                ], lockedUsers: .quarantine)
            guard case .stored = verdicts[1] else {
                Issue.record("\(verdicts)")
                return
            }
            #expect(try await bench.text("SELECT reason FROM metering.quarantine") == "unstorable")
        }
    }

    @Test func arraysOfEventsWithoutIdempotencyKeysAreStoredInOneTransaction() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let events = (0..<25).map { index in
                var event = UsageEvent.sample(UInt64(index), by: .user(user), at: StorageBench.noon)
                event.isIdempotent = false
                return event
            }
            let queue = GroupCommit(writer: bench.writer, limits: .init(batchEvents: 10))
            let group = ServiceGroup(services: [queue], logger: Logger(label: "test"))
            let running = Task { try await group.run() }
            _ = try await queue.submit(events.map { IngestItem(.success($0)) })
            #expect(try await bench.number("SELECT count(DISTINCT xmin::text) FROM api_logs") == 1)
            await group.triggerGracefulShutdown()
            try await running.value
        }
    }

    @Test func longTextsCountAsSeveralEventsOfTheQueue() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let queue = GroupCommit(writer: bench.writer, limits: .init(queuedEvents: 10))
            func items(_ count: UInt64, message: String?) -> [IngestItem] {
                (0..<count).map { index in
                    var event = UsageEvent.sample(index, by: .user(user), at: StorageBench.noon)
                    event.errorMessage = message
                    return IngestItem(.success(event))
                }
            }
            // No writer runs, so this waits. With 8 KiB of text it counts as 9 events.
            let waiting = Task { try await queue.submit(items(1, message: String(repeating: "x", count: 8192))) }
            try await eventually("the event is queued") { queue.depth > 0 }
            await #expect(throws: AppError.self) { try await queue.submit(items(2, message: nil)) }
            let group = ServiceGroup(services: [queue], logger: Logger(label: "test"))
            let running = Task { try await group.run() }
            _ = try await waiting.value
            _ = try await queue.submit(items(10, message: nil))
            await group.triggerGracefulShutdown()
            try await running.value
        }
    }

    @Test func aRowThatLaravelIsInsertingDelaysNoOtherCounter() async throws {
        try await StorageBench.with { bench in
            let (ada, bob, eve) = (
                try await bench.makeUser(), try await bench.makeUser(), try await bench.makeUser()
            )
            _ = try await bench.write([.sample(1, by: .user(eve), at: StorageBench.noon)])
            try await bench.updateCounters()
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute(
                    """
                    INSERT INTO rate_limits (user_id, period, limit_tokens, limit_requests, reset_at)
                    VALUES (\(ada), 'daily', 1, 1, '2026-11-24')
                    """)
            }
            _ = try await bench.write(
                [ada, bob, eve].map { .sample(UInt64($0) + 10, by: .user($0), at: StorageBench.noon) })
            let now = bench.clock.now
            _ = try await bench.pool.withConnection { connection in
                try RateLimitProjection.project(
                    connection, .users(try QuotaCounters.addDeltas(connection, now: now)), now: now)
            }
            let used: Query = "SELECT used_requests FROM rate_limits WHERE period = 'daily' AND user_id = "
            #expect(try await bench.number("\(used)\(bob)") == 1)
            #expect(try await bench.number("\(used)\(eve)") == 2)
            try await lock.end()
            try await bench.updateCounters()
            #expect(try await bench.number("\(used)\(ada)") == 1)
        }
    }

    @Test func aPlanWithoutLimitsLeavesTheUsersOwn() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("DELETE FROM metering.plan_limits WHERE plan = 'starter'")
            try await bench.execute("INSERT INTO metering.user_limits VALUES (\(user), 'daily', 7, 7)")
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.updateCounters()
            #expect(try await bench.text("SELECT string_agg(period, ' ') FROM rate_limits") == "daily")
        }
    }

    @Test func aChangedUsersTableQuarantinesEventsUntilItIsBack() async throws {
        try await StorageBench.with { bench in
            try await bench.makeUser(key: "cf_ada")
            let event = UsageEvent.sample(1, by: .key("cf_ada"), at: StorageBench.noon)
            try await bench.execute("ALTER TABLE users RENAME api_key TO token")
            #expect(try await bench.write([event]) == [.quarantined(.laravelUnavailable)])
            try await bench.execute("ALTER TABLE users RENAME token TO api_key")
            let replay = QuarantineReplay(pool: bench.service, writer: bench.writer, now: { bench.clock.now })
            let now = bench.clock.now
            try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
            #expect(try await replay.replay() == 1)
        }
    }

    @Test func aNarrowedColumnQuarantinesOnlyRefusedEvents() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("ALTER TABLE api_logs ALTER model TYPE varchar(5)")
            var long = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            long.modelGroup = "gpt-4-turbo"
            let verdicts = try await bench.write([long, .sample(2, by: .user(user), at: StorageBench.noon)])
            #expect(verdicts[0] == .quarantined(.laravelUnavailable))
            try await bench.execute("ALTER TABLE api_logs ALTER model TYPE varchar(255)")
            let replay = QuarantineReplay(pool: bench.service, writer: bench.writer, now: { bench.clock.now })
            #expect(try await replay.replay() == 1)
        }
    }

    @Test func aKeyGivenBackIsFoundAgain() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(key: "cf_shared"), try await bench.makeUser())
            _ = try await bench.write([.sample(1, by: .key("cf_shared"), at: StorageBench.noon)])
            for (holder, former) in [(bob, ada), (ada, bob)] {
                bench.clock.advance(by: .seconds(60))
                try await bench.execute("UPDATE users SET api_key = NULL WHERE id = \(former)")
                // A key sync sees that no user holds the key, before another user gets it.
                let now = bench.clock.now
                try await bench.service.withConnection { try KeyHistory.sync($0, now: now) }
                bench.clock.advance(by: .seconds(60))
                try await bench.execute("UPDATE users SET api_key = 'cf_shared' WHERE id = \(holder)")
                let moment = bench.clock.now
                _ = try await bench.write([.sample(UInt64(moment.microseconds), by: .key("cf_shared"), at: moment)])
            }
            let owners = try await bench.text(
                "SELECT string_agg(user_id::text, ' ' ORDER BY occurred_at) FROM metering.events")
            #expect(owners == "\(ada) \(bob) \(ada)")
        }
    }

    @Test func anIdempotencyKeyOfTwoUsersIsAConflict() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            let events = [ada, bob].map { user in
                var event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
                event.key = EventKey(idempotencyKey: "1")
                return event
            }
            guard case .stored(let log) = try await bench.write([events[0]])[0] else {
                Issue.record("not stored")
                return
            }
            #expect(try await bench.write([events[1], events[0]]) == [.conflict(logID: log), .duplicate(logID: log)])
        }
    }
}
