import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct EventWriterTests {
    @Test func aLogFactsAndADeltaAreStoredTogether() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada", plan: "pro")
            let event = UsageEvent.sample(1, by: .key("cf_ada"), at: StorageBench.noon, cost: "0.0022500000000000003")
            let verdicts = try await bench.write([event])

            let log = try await bench.number("SELECT max(id) FROM public.api_logs")
            #expect(verdicts == [.stored(logID: Int64(log))])
            let row = try await bench.text(
                """
                SELECT concat_ws('|', user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                 error_message, created_at) FROM public.api_logs
                """)
            #expect(row == "\(user)|gpt-4|100|50|0.002250|1250|success|2026-11-23 12:00:00")
            let facts = try await bench.text(
                "SELECT concat_ws('|', api_log_id, user_id, plan, cost, model, quota_tokens) FROM metering.events")
            #expect(facts == "\(log)|\(user)|pro|0.002250000000|openai/gpt-4|150")
            #expect(try await bench.text("SELECT tokens FROM metering.quota_deltas") == "{150}")
        }
    }

    @Test func createdAtIsTruncatedNotRounded() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let almostMidnight = Timestamp(microseconds: 1_795_391_999_700_000)
            _ = try await bench.write([.sample(1, by: .user(user), at: almostMidnight)])
            #expect(try await bench.text("SELECT created_at FROM public.api_logs") == "2026-11-22 23:59:59")
        }
    }

    @Test func aSecondDeliveryIsADuplicateOrAConflict() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            var changed = event
            changed.outputTokens += 1
            guard case .stored(let log) = try await bench.write([event])[0] else {
                Issue.record("not stored")
                return
            }
            #expect(try await bench.write([event, changed]) == [.duplicate(logID: log), .conflict(logID: log)])
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 1)
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine WHERE reason = 'conflict'") == 1)
        }
    }

    @Test func twinsInOneBatchAreStoredThenDuplicate() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon)
            var changed = event
            changed.cost = DecimalLiteral("7").flatMap(Cost.init)
            let verdicts = try await bench.write([event, event, changed])
            let log = Int64(try await bench.number("SELECT max(id) FROM public.api_logs"))
            #expect(verdicts == [.stored(logID: log), .duplicate(logID: log), .conflict(logID: log)])
        }
    }

    @Test func aStoredEventStaysStoredWhenItsUserIsGone() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            let event = UsageEvent.sample(1, by: .key("cf_ada"), at: StorageBench.noon)
            guard case .stored(let log) = try await bench.write([event])[0] else {
                Issue.record("not stored")
                return
            }
            try await bench.execute("DELETE FROM public.users WHERE id = \(user)")
            #expect(try await bench.write([event]) == [.duplicate(logID: log)])
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine") == 0)
        }
    }

    @Test func unpricedIsNotZeroUnlessTheModelIsFree() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute("INSERT INTO metering.free_models VALUES ('llama')")
            var events = (0..<8).map { UsageEvent.sample($0, by: .user(user), at: StorageBench.noon, cost: "0.0") }
            events[1].modelGroup = "llama"
            events[2].isCacheHit = true
            events[3].cost = nil
            // An image has no tokens.
            for index in 4..<8 { (events[index].inputTokens, events[index].outputTokens) = (0, 0) }
            events[5].modelGroup = "llama"
            events[6].shape = .documented
            (events[7].cost, events[7].isCacheHit) = (nil, true)
            _ = try await bench.write(events)
            let costs = try await bench.text(
                "SELECT string_agg(coalesce(cost::text, 'unpriced'), ' ' ORDER BY event_key) FROM metering.events")
            let zero = "0.000000000000"
            #expect(costs == "unpriced \(zero) \(zero) unpriced unpriced \(zero) unpriced \(zero)")
            #expect(try await bench.text("SELECT sum(total_cost) FROM public.api_logs") == "0.000000")
        }
    }

    @Test func absurdNumbersSaturateInLaravelsRowAndStayExactInOurs() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            var event = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon, cost: "99999999.999999999999")
            event.inputTokens = .max
            event.outputTokens = .max
            event.durationMilliseconds = .max
            _ = try await bench.write([event, .sample(2, by: .user(user), at: StorageBench.noon)])
            let row = try await bench.text(
                """
                SELECT concat_ws('|', input_tokens, total_cost, response_time_ms)
                FROM public.api_logs ORDER BY id LIMIT 1
                """)
            #expect(row == "2147483647|9999.999999|2147483647")
            #expect(try await bench.text("SELECT max(cost) FROM metering.events") == "99999999.999999999999")
            try await bench.updateCounters()
            let used = try await bench.text("SELECT used_tokens FROM public.rate_limits WHERE period = 'daily'")
            #expect(used == "2147483647")
        }
    }

    @Test func suspendedUsersEventsAreStored() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(status: "suspended")
            guard case .stored = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])[0] else {
                Issue.record("not stored")
                return
            }
        }
    }

    @Test func manyWritersOfTheSameEventsStoreEachOnce() async throws {
        try await StorageBench.with { bench in
            let users = [try await bench.makeUser(), try await bench.makeUser()]
            let events = (0..<200).map { UsageEvent.sample($0, by: .user(users[Int($0 % 2)]), at: StorageBench.noon) }
            let stored = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<6 {
                    group.addTask {
                        let verdicts = try await bench.write(events.shuffled())
                        return verdicts.filter { if case .stored = $0 { true } else { false } }.count
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(stored == 200)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 200)
            try await bench.updateCounters()
            #expect(try await bench.number("SELECT sum(used_requests) FROM rate_limits WHERE period = 'daily'") == 200)
        }
    }
}
