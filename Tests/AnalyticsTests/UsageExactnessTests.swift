import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Writers of every kind, open transactions, deletions of users, two workers and their deaths, in random order: at
/// every read the answer is the model's.
///
/// `USAGE_EXACTNESS_SECONDS` and `TEST_SEED` make it longer, and repeat it.
@Suite(.timeLimit(.minutes(30))) struct UsageExactnessTests {
    private static func setting(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap(UInt64.init)
    }

    @Test func everyReadIsExact() async throws {
        let seed = TestSeed.seed()
        let end = ContinuousClock.now + .seconds(Int64(Self.setting("USAGE_EXACTNESS_SECONDS") ?? 20))
        try await withTestDatabase { database in
            let pool = ConnectionPool(database.configuration, limits: PoolLimits(maxConnections: 8), logger: .quiet)
            var story = UsageStory(database, pool: pool, seed: seed)
            let workers = (0..<2).map { number in
                let clock = story.clock
                return Task { await Self.work(number, on: database.configuration.role(.worker), clock) }
            }
            let played = await Result { try await story.play(until: end) }
            for worker in workers { worker.cancel() }
            for worker in workers { await worker.value }
            let ended = await Result { try await story.end() }
            await pool.close()
            try played.get()
            try ended.get()
            #expect(story.mismatches == [], "seed \(seed), after \(story.steps) steps")
        }
    }

    /// Pass after pass, each in small windows, until it is cancelled; killed, it goes on.
    private static func work(
        _ number: Int, on database: ConnectionConfiguration, _ clock: StorageBench.ManualClock
    ) async {
        var configuration = database
        configuration.applicationName = UsageStory.worker
        let pool = ConnectionPool(configuration, limits: PoolLimits(maxConnections: 1), logger: .quiet)
        let pass = RollupPass(
            pool: pool, window: 7 + number * 30, timeout: .milliseconds(30), now: { clock.now })
        while !Task.isCancelled {
            _ = try? await pass.run(number == 0 ? .everything : .laravel)
            // Leaves the machine to the story, and to other tests.
            try? await Task.sleep(for: .milliseconds(20))
        }
        await pool.close()
    }
}

extension Result where Failure == any Error {
    /// What `body` returned or threw.
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
