import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Which ids are final while others write.
@Suite(.timeLimit(.minutes(30))) struct CommitHorizonTests {
    private static func event(_ id: UInt64, _ user: Int64) -> UsageEvent {
        .sample(id, by: .user(user), at: StorageBench.noon)
    }

    @Test func aTransactionThatCommitsLateIsNotPassedBy() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            // It draws an id, then others draw and commit theirs.
            let late = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms)
                    VALUES (\(user), 'late', 1, 1, 1, 1)
                    """)
            }
            _ = try await bench.write([Self.event(1, user), Self.event(2, user)])
            try await bench.writeAsLaravel(user)
            let held = try await bench.rollUp()
            #expect(held.rows == 0)
            #expect(held.waitingFor.count == 1)
            #expect(held.waitingFor.first?.application == "codexflow")
            #expect(held.waitingFor.first?.since != nil)
            // Nobody waits: ingest has answered, and readers see what is committed.
            #expect(try await bench.requests(of: user) == 4)
            try await late.end()
            #expect(try await bench.requests(of: user) == 5)
            #expect(try await bench.rollUp().rows == 4)
            #expect(try await bench.requests(of: user) == 5)
        }
    }

    @Test func whatWasFinalBeforeAnOpenTransactionIsRolledUp() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user)])
            let first = try await OpenTransaction.begin(bench.pool) {
                try $0.execute("UPDATE api_logs SET model = model")
            }
            #expect(try await bench.rollUp().rows == 0)
            // The next one begins before the first ends, as somebody's always does.
            let second = try await OpenTransaction.begin(bench.pool) {
                try $0.execute("DELETE FROM api_logs WHERE false")
            }
            _ = try await bench.write([Self.event(2, user)])
            try await first.end()
            let pass = try await bench.rollUp()
            #expect(pass.rows == 1)
            #expect(pass.waitingFor.count == 1)
            try await second.end()
            #expect(try await bench.rollUp().rows == 1)
        }
    }

    @Test func readersOfTheTableAreNotWaitedFor() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            let reader = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT * FROM api_logs FOR SHARE")
            }
            #expect(try await bench.rollUp().rows == 1)
            try await reader.end()
        }
    }

    @Test func rolledBackIdsAreGaps() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for _ in 0..<3 {
                try? await bench.pool.transaction { connection in
                    try connection.execute("SELECT nextval('api_logs_id_seq') FROM generate_series(1, 5)")
                    throw CancellationError()
                }
                try await bench.writeAsLaravel(user)
            }
            #expect(try await bench.rollUp().rows == 3)
        }
    }

    @Test func aSequenceThatHandsOutAheadIsRefused() async throws {
        try await StorageBench.with { bench in
            try await bench.execute("ALTER SEQUENCE api_logs_id_seq CACHE 10")
            await #expect(throws: CommitHorizon.CachedSequence.self) { try await bench.rollUp() }
        }
    }

    @Test func aForeignDatabaseIsNotRolledUp() async throws {
        try await StorageBench.with { bench in
            try await bench.execute("UPDATE metering.installation SET highest_user_id = 1000000")
            await #expect(throws: Installation.Mismatch.self) { try await bench.rollUp() }
        }
    }

    @Test func oneWorkerWorks() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            let other = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT FROM metering.rollup_watermark FOR UPDATE")
            }
            #expect(try await bench.rollUp().isBusy)
            #expect(try await bench.requests(of: user) == 1)
            try await other.end()
            #expect(try await bench.rollUp().rows == 1)
        }
    }

    @Test func aStoppedPassLeavesTheRestToTheNext() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for _ in 0..<7 { try await bench.writeAsLaravel(user) }
            let stopped = try await bench.rollUp(window: 3, goesOn: false)
            #expect(stopped.isStopped)
            #expect(stopped.rows == 3)
            #expect(try await bench.requests(of: user) == 7)
            #expect(try await bench.rollUp().rows == 4)
        }
    }
}
