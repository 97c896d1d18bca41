import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// `codexflow event withdraw`: an event that was never stored, whatever was made of it meanwhile.
@Suite(.timeLimit(.minutes(30))) struct WithdrawalTests {
    /// What is left of everything that counts, of a user and of all users.
    private func state(_ bench: StorageBench, _ user: Int64) async throws -> [String?] {
        var state = [try await bench.usage(of: user), try await bench.usage(of: 0)]
        for query in [
            """
            SELECT string_agg(concat_ws(' ', period, used_tokens, used_requests), E'\\n' ORDER BY period)
            FROM rate_limits WHERE user_id = \(user)
            """,
            "SELECT string_agg(s::text, E'\\n' ORDER BY s::text) FROM metering.rollup_span s",
            """
            SELECT string_agg(concat_ws(' ', user_id, day, requests, cost, metering.merged(histogram)), E'\\n'
                              ORDER BY user_id, day, dimension)
            FROM metering.rollup_day
            """,
            """
            SELECT string_agg(concat_ws(' ', user_id, period, window_start, tokens, requests, trim_scale(cost)), E'\\n'
                              ORDER BY window_start, period, user_id)
            FROM metering.quota_usage WHERE requests <> 0
            """,
            "SELECT count(*) || ' ' || coalesce(sum(total_cost), 0) FROM api_logs",
        ] as [Query] { state.append(try await bench.text(query)) }
        return state
    }

    private func withdraw(
        _ subject: EventWithdrawal.Subject, _ bench: StorageBench, reason: String? = "a test"
    ) async throws -> EventWithdrawal.Withdrawn {
        let now = bench.clock.now
        return try await bench.operator.transaction {
            try EventWithdrawal.withdraw(subject, reason: reason, $0, now: now)
        }
    }

    private func verified(_ bench: StorageBench) async throws -> [String] {
        try await bench.verify().findings.map { "\($0)" }
    }

    /// How far the worker is when the event is withdrawn.
    enum Progress: CaseIterable {
        case pending, rolledUp, inDays, late, inSpans
    }

    @Test(arguments: Progress.allCases, [false, true])
    func nothingIsLeftOfIt(progress: Progress, isAlone: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(plan: "pro")
            let other = try await bench.makeUser()
            func events(_ isFirst: Bool) -> [UsageEvent] {
                var neighbour = UsageEvent.sample(2, by: .user(isAlone ? other : user), at: StorageBench.noon)
                neighbour.timeToFirstTokenMilliseconds = 300
                return isFirst ? [neighbour, .sample(3, by: .user(other), at: StorageBench.noon)] : []
            }
            var event = UsageEvent.sample(
                1, by: .user(user),
                at: progress == .late ? StorageBench.noon.advanced(by: .seconds(-7200)) : StorageBench.noon,
                cost: "0.123456789012")
            (event.timeToFirstTokenMilliseconds, event.isStream) = (250, true)
            _ = try await bench.write(events(true))
            let passes: [Duration] =
                switch progress {
                case .pending: []
                case .rolledUp: [.zero]
                case .inDays, .late: [.seconds(3 * 3600), .zero]
                case .inSpans: [.seconds(86_400 * 40), .zero]
                }
            if progress == .late { try await bench.rollUp() }
            for pass in passes.prefix(progress == .late ? 1 : 0) {
                bench.clock.advance(by: pass)
                try await bench.rollUp()
            }
            try await bench.updateCounters()
            // As it would be without the event.
            let before = progress == .late ? try await state(bench, user) : []
            guard case .stored(let id)? = try await bench.write([event])[0] else { throw AppError(.internal, "") }
            for pass in progress == .late ? [.zero] : passes {
                bench.clock.advance(by: pass)
                try await bench.rollUp()
            }
            try await bench.updateCounters()
            let withdrawn = try await withdraw(isAlone ? .log(id) : .key(event.key), bench)
            #expect(withdrawn.wasRolledUp == (progress != .pending) && withdrawn.hadLog && withdrawn.logID == id)
            try await bench.updateCounters()
            #expect(try await verified(bench) == [])
            if progress == .late { #expect(try await state(bench, user).dropFirst(4) == before.dropFirst(4)) }
            #expect(try await bench.requests(of: user) == (isAlone ? 0 : 1))
            #expect(try await bench.requests(of: 0) == 2)
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE id = \(id)") == 0)
            #expect(try await bench.number("SELECT count(*) FROM metering.events WHERE api_log_id = \(id)") == 0)
            // The counters are where they would be.
            #expect(
                try await bench.text(
                    "SELECT coalesce(sum(used_tokens), 0) FROM rate_limits WHERE user_id = \(user) AND period = 'daily'"
                )
                    == (progress == .inSpans || isAlone ? "0" : "150"))
            bench.clock.advance(by: .seconds(86_400 * 3))
            try await bench.rollUp()
            #expect(try await verified(bench) == [])
            let audit = try await bench.text(
                """
                SELECT concat_ws('|', actor_id, address, action, subject, subject_id, before ->> 'cost',
                                 after ->> 'reason')
                FROM metering.audit_log
                """)
            #expect(
                audit?.hasSuffix("_operator|event.withdraw|event|\(event.key)|0.123456789012|a test") == true
                    && audit?.hasPrefix("0|codexflow as ") == true, "\(audit ?? "")")
        }
    }

    @Test func aReSentEventIsADuplicate() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            guard case .stored(let id)? = try await bench.write([event])[0] else { throw AppError(.internal, "") }
            _ = try await withdraw(.log(id), bench)
            #expect(try await bench.write([event, event]) == [.duplicate(logID: id), .duplicate(logID: id)])
            var other = event
            other.inputTokens += 1
            #expect(try await bench.write([other]) == [.conflict(logID: id)])
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 0)
            // Nor does an entry of the quarantine become a row, or wait for ever.
            try await bench.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, event, key_hashes, received_at, last_received_at,
                                                 deliveries, is_replayable, next_attempt_at)
                VALUES (\(event.key.description)::uuid, 'laravel_unavailable', '',
                        \(String(decoding: try JSONEncoder().encode(event), as: UTF8.self))::jsonb, '{}',
                        now(), now(), 1, true, '2026-11-23')
                """)
            _ = try await bench.heal()
            #expect(
                try await bench.text(
                    "SELECT resolution FROM metering.quarantine WHERE id = \(event.key.description)::uuid")
                    == "duplicate")
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 0)
        }
    }

    /// A delivery that came while the withdrawal was open waits for its key, and finds the withdrawal although it began
    /// before.
    @Test func aDeliveryInTheMiddleDoesNotBringItBack() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            guard case .stored(let id)? = try await bench.write([event])[0] else { throw AppError(.internal, "") }
            let now = bench.clock.now
            let withdrawal = try await SlowTransaction(bench.operator) { connection in
                [try EventWithdrawal.withdraw(.log(id), reason: nil, connection, now: now).logID]
            }
            let delivery = Task { try await bench.write([event, .sample(2, by: .user(user), at: StorageBench.noon)]) }
            try await Self.waitForLock(bench, held: "webhook")
            #expect(try await withdrawal.end(commits: true) == [id])
            let verdicts = try await delivery.value
            #expect(verdicts[0] == .duplicate(logID: id))
            #expect(
                try await bench.number(
                    "SELECT count(*) FROM metering.events WHERE event_key = \(event.key.description)::uuid") == 0)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 1)
            try await bench.rollUp()
            #expect(try await verified(bench) == [])
        }
    }

    /// A worker that holds the cursor has added the event, or dies and has not: it is subtracted once, or never.
    @Test(arguments: [true, false]) func aWorkerInTheMiddleOfAPass(commits: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let (first, event) = (
                UsageEvent.sample(1, by: .user(user), at: StorageBench.noon),
                UsageEvent.sample(2, by: .user(user), at: StorageBench.noon)
            )
            _ = try await bench.write([first])
            try await bench.rollUp()
            _ = try await bench.write([event])
            let cell = try await SlowTransaction(bench.pool) { connection in
                try connection.execute("SELECT FROM metering.rollup_15m WHERE user_id = \(user) FOR UPDATE")
                return []
            }
            let clock = bench.clock
            let worker = Task { try? await RollupPass(pool: bench.worker, now: { clock.now }).run() }
            try await Self.waitForLock(bench, held: "worker")
            let withdrawal = Task { try await withdraw(.key(event.key), bench) }
            try await Self.waitForLock(bench, held: "operator")
            if !commits {
                try await bench.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE usename LIKE '%_worker' AND datname = current_database() AND wait_event_type = 'Lock'
                    """
                )
            }
            _ = try await cell.end(commits: true)
            let withdrawn = try await withdrawal.value
            _ = await worker.value
            if commits { #expect(withdrawn.wasRolledUp) }
            try await bench.rollUp()
            try await bench.updateCounters()
            #expect(try await verified(bench) == [])
            #expect(try await bench.requests(of: user) == 1)
            #expect(try await bench.requests(of: 0) == 1)
        }
    }

    /// A saturated rollup cannot be subtracted from: the day is made again.
    @Test(arguments: [true, false]) func saturatedSums(isOneBatch: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let events = (1...3).map { id in
                var event = UsageEvent.sample(UInt64(id), by: .user(user), at: StorageBench.noon, cost: "99999999")
                event.inputTokens = id == 3 ? 7 : 9_200_000_000_000_000_000
                event.outputTokens = 5
                return event
            }
            if isOneBatch {
                _ = try await bench.write(events)
            } else {
                for event in events { _ = try await bench.write([event]) }
            }
            bench.clock.advance(by: .seconds(86_400))
            try await bench.rollUp()
            if isOneBatch { try await bench.updateCounters() }
            for event in events.prefix(2) {
                _ = try await withdraw(.key(event.key), bench)
                try await bench.updateCounters()
                #expect(try await verified(bench) == [])
            }
            #expect(
                try await bench.text(
                    "SELECT tokens || ' ' || trim_scale(cost) FROM metering.quota_usage WHERE period = 'daily'")
                    == "12 99999999")
            #expect(
                try await bench.text("SELECT string_agg(input_tokens::text, ' ') FROM metering.rollup_day") == "7 7")
        }
    }

    @Test func whatCannotBeWithdrawnIsRefused() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            _ = try await bench.write([event, .sample(2, by: .user(user), at: StorageBench.noon)])
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            func refusal(_ subject: EventWithdrawal.Subject) async -> String? {
                await #expect(throws: AppError.self) { _ = try await withdraw(subject, bench) }?.message
            }
            #expect(await refusal(.log(3))?.hasPrefix("The log 3 has no event: Laravel wrote it itself") == true)
            #expect(await refusal(.log(99))?.hasPrefix("There is no log 99.") == true)
            _ = try await withdraw(.key(event.key), bench)
            #expect(await refusal(.key(event.key))?.contains("was withdrawn at 2026-11-23T12:00:00Z by ") == true)
            _ = try await LogRetention(pool: bench.owner).run(
                days: 1, now: StorageBench.noon.advanced(by: .seconds(86_400 * 3))
            ) { _, _ in }
            #expect(await refusal(.log(2))?.contains("Raw rows before 2026-11-25T00:00:00Z are gone") == true)
            #expect(try await verified(bench) == [])
            #expect(try await bench.number("SELECT count(*) FROM metering.audit_log") == 1)
        }
    }

    /// Only operators may.
    @Test func otherRolesCannot() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            _ = try await bench.write([event])
            for pool in [bench.admin, bench.service, bench.worker] {
                let error = await #expect(throws: PostgresError.self) {
                    try await pool.transaction {
                        _ = try EventWithdrawal.withdraw(.key(event.key), reason: nil, $0, now: StorageBench.noon)
                    }
                }
                #expect(error?.sqlState == "42501")
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 1)
        }
    }

    /// Ingest, workers, withdrawals and re-sent events at once.
    @Test func besideIngestAndWorkers() async throws {
        try await StorageBench.with { bench in
            var users: [Int64] = []
            for _ in 0..<3 { users.append(try await bench.makeUser(plan: "pro")) }
            let (people, clock, seed) = (users, bench.clock, TestSeed.seed(standard: 7))
            let withdrawn = try await withThrowingTaskGroup(of: Int.self) { group in
                for worker in 0..<2 {
                    group.addTask {
                        for _ in 0..<25 {
                            _ = try await RollupPass(
                                pool: bench.worker, window: 5 + worker * 50, timeout: .milliseconds(20),
                                now: { clock.now }
                            ).run()
                            if worker == 0 { clock.advance(by: .seconds(1200)) }
                        }
                        return 0
                    }
                }
                for sender in 0..<3 {
                    group.addTask {
                        var random = SplitMix64(seed: seed &+ UInt64(sender))
                        var count = 0
                        for round in 0..<25 {
                            let events = (0..<6).map { index in
                                var event = UsageEvent.sample(
                                    UInt64(sender * 1000 + round * 10 + index), by: .user(people[(sender + index) % 3]),
                                    at: StorageBench.noon.advanced(
                                        by: .seconds(-Int64.random(in: 0...90_000, using: &random))))
                                if index == 5 { event.flags = [.selfReported] }
                                return event
                            }
                            _ = try await bench.write(events)
                            let victim = events[Int.random(in: 0..<6, using: &random)]
                            async let again = bench.write(events)
                            _ = try await bench.operator.transaction {
                                try EventWithdrawal.withdraw(.key(victim.key), reason: nil, $0, now: clock.now)
                            }
                            let verdicts = try await again
                            #expect(
                                verdicts.allSatisfy { if case .duplicate? = $0 { true } else { false } }, "\(verdicts)")
                            count += 1
                        }
                        return count
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(withdrawn == 75)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 3 * 25 * 6 - withdrawn)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 3 * 25 * 6 - withdrawn)
            try await bench.rollUp()
            try await bench.updateCounters()
            #expect(try await verified(bench) == [])
            let own = try await bench.number(
                "SELECT sum(requests) FROM metering.rollup_15m WHERE user_id <> 0")
            #expect(own == 3 * 25 * 6 - withdrawn)
        }
    }

    private static func waitForLock(_ bench: StorageBench, held role: String) async throws {
        let waiting = try await bench.number(
            """
            SELECT least(count(*), 1) FROM pg_stat_activity
            WHERE datname = current_database() AND usename LIKE '%\\_' || \(role) AND wait_event_type = 'Lock'
            """, becoming: 1, within: .seconds(20))
        #expect(waiting == 1, "\(role) waits for nobody")
    }
}
