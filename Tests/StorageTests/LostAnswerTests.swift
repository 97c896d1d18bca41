import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The connection breaks at the one statement that stores plain events. The writer sends the events again, and finds
/// by their keys what is stored.
@Suite(.timeLimit(.minutes(30))) struct LostAnswerTests {
    /// Writes 20 events through a proxy with `fault`, one of them without an idempotency key.
    private func write(
        _ fault: CommitProxy.Fault, _ body: (StorageBench, [UsageEvent], [Verdict?]) async throws -> Void
    ) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            let proxy = try CommitProxy(to: bench.database.configuration.role(.webhook))
            defer { proxy.stop() }
            var events = (0..<20).map { UsageEvent.sample($0, by: .key("cf_ada"), at: StorageBench.noon) }
            events[7].isIdempotent = false
            let verdicts = try await withPool(proxy.configuration) { [events] pool in
                let writer = EventWriter(pool: pool, now: { StorageBench.noon })
                // The first write finds the key; the second one prepares the statement.
                for id: UInt64 in 100..<102 {
                    let item = IngestItem(.success(.sample(id, by: .key("cf_ada"), at: StorageBench.noon)))
                    _ = try await writer.write([item], lockedUsers: .tryAgain)
                }
                proxy.arm(fault, at: .preparedStatement)
                return try await writer.write(events.map { IngestItem(.success($0)) }, lockedUsers: .tryAgain)
            }
            try await body(bench, events, verdicts)
            // Each event has one log, one row of facts and one share of the counters.
            try await bench.updateCounters()
            let numbers = try await bench.text(
                """
                SELECT concat_ws(' ', (SELECT count(*) FROM api_logs), (SELECT count(*) FROM metering.events),
                    (SELECT requests FROM metering.quota_usage WHERE user_id = \(user) AND period = 'daily'),
                    (SELECT count(*) FROM metering.quarantine))
                """)
            #expect(numbers == "22 22 22 0")
        }
    }

    private func logIDs(_ events: [UsageEvent], _ bench: StorageBench) async throws -> [Int64] {
        var ids: [Int64] = []
        for event in events {
            ids.append(
                Int64(
                    try await bench.number(
                        "SELECT api_log_id FROM metering.events WHERE event_key = \(event.key.description)::uuid")))
        }
        return ids
    }

    @Test func anAnswerThatIsLostAfterTheCommitCountsNothingTwice() async throws {
        try await write(.answerLost) { bench, events, verdicts in
            let ids = try await logIDs(events, bench)
            // What has no idempotency key cannot be a duplicate.
            let expected = ids.enumerated().map { index, id -> Verdict? in
                index == 7 ? .stored(logID: id) : .duplicate(logID: id)
            }
            #expect(verdicts == expected)
            #expect(try await bench.number("SELECT count(DISTINCT xmin::text) FROM api_logs") == 3)
        }
    }

    @Test func aRequestThatIsLostIsSentAgain() async throws {
        try await write(.requestLost) { bench, events, verdicts in
            let ids = try await logIDs(events, bench)
            #expect(verdicts == ids.map { .stored(logID: $0) })
        }
    }
}
