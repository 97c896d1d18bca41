import Domain
import Logging
import Postgres
import ServiceLifecycle
import Storage
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct GroupCommitTests {
    /// Runs a queue while `body` uses it, and stops it as a service group does at SIGTERM.
    private func withQueue<T: Sendable>(
        _ bench: StorageBench, _ limits: GroupCommit.Limits = .init(lockedRetryInterval: .milliseconds(1)),
        _ body: @escaping @Sendable (GroupCommit) async throws -> T
    ) async throws -> T {
        let queue = GroupCommit(writer: bench.writer, limits: limits)
        let group = ServiceGroup(services: [queue], logger: Logger(label: "test"))
        let running = Task { try await group.run() }
        let result = try await body(queue)
        await group.triggerGracefulShutdown()
        try await running.value
        return result
    }

    private func items(_ events: [UsageEvent]) -> [IngestItem] { events.map { IngestItem(.success($0)) } }

    @Test func everyWaiterGetsTheVerdictsOfItsOwnEvents() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await withQueue(bench, .init(batchEvents: 7)) { queue in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<50 {
                        group.addTask {
                            let size = index % 5 + 1
                            let events = (0..<size).map {
                                UsageEvent.sample(UInt64(index * 10 + $0), by: .user(user), at: StorageBench.noon)
                            }
                            let verdicts = try await queue.submit(items(events))
                            for (event, verdict) in zip(events, verdicts) {
                                guard case .stored(let log) = verdict else {
                                    Issue.record("\(verdict)")
                                    continue
                                }
                                let stored = try await bench.number(
                                    """
                                    SELECT api_log_id FROM metering.events
                                    WHERE event_key = \(event.key.description)::uuid
                                    """
                                )
                                #expect(stored == Int(log))
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 150)
        }
    }

    @Test func anEventOfALockedUserIsQuarantinedAfterItsAttempts() async throws {
        try await StorageBench.with { bench in
            let (free, locked) = (try await bench.makeUser(), try await bench.makeUser())
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT FROM public.users WHERE id = \(locked) FOR UPDATE")
            }
            let verdicts = try await withQueue(bench) { queue in
                try await queue.submit(
                    items([
                        .sample(1, by: .user(free), at: StorageBench.noon),
                        .sample(2, by: .user(locked), at: StorageBench.noon),
                    ]))
            }
            guard case .stored = verdicts[0] else {
                Issue.record("\(verdicts)")
                return
            }
            #expect(verdicts[1] == .quarantined(.userLocked))
            try await lock.end()
        }
    }

    @Test func otherUsersDoNotWaitForALockedUser() async throws {
        try await StorageBench.with { bench in
            let (free, locked) = (try await bench.makeUser(), try await bench.makeUser())
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("SELECT FROM public.users WHERE id = \(locked) FOR UPDATE")
            }
            let limits = GroupCommit.Limits(lockedRetryInterval: .milliseconds(1), lockedAttempts: .max)
            try await withQueue(bench, limits) { queue in
                async let waiting = queue.submit(items([.sample(1, by: .user(locked), at: StorageBench.noon)]))
                try await eventually("the locked user waits") { queue.lockedDepth > 0 }
                for index in 0..<10 {
                    let verdicts = try await queue.submit(
                        items([.sample(UInt64(10 + index), by: .user(free), at: StorageBench.noon)]))
                    guard case .stored = verdicts[0] else {
                        Issue.record("\(verdicts)")
                        return
                    }
                }
                try await lock.end()
                guard case .stored = try await waiting[0] else {
                    Issue.record("the locked user's event is no row")
                    return
                }
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 11)
        }
    }

    @Test func aSecondWriterBeginsOnlyUnderABacklog() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("LOCK TABLE metering.quota_deltas IN EXCLUSIVE MODE")
            }
            let writing: Query = """
                SELECT count(*) FROM pg_locks
                WHERE relation = 'metering.quota_deltas'::regclass AND NOT granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                """
            try await withQueue(bench, .init(backlogEvents: 2)) { queue in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    let submit = { (group: inout ThrowingTaskGroup<Void, any Error>, seed: UInt64) in
                        group.addTask {
                            _ = try await queue.submit(items([.sample(seed, by: .user(user), at: StorageBench.noon)]))
                        }
                    }
                    submit(&group, 1)
                    try await eventually("a writer waits") { try await bench.number(writing) == 1 }
                    submit(&group, 2)
                    submit(&group, 3)
                    try await eventually("two events are queued") { queue.depth == 2 }
                    #expect(try await bench.number(writing) == 1)
                    submit(&group, 4)
                    try await eventually("two writers wait") { try await bench.number(writing) == 2 }
                    #expect(queue.depth == 0)
                    try await lock.end()
                    try await group.waitForAll()
                }
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 4)
        }
    }

    @Test func aFullQueueIsUnavailableAtOnce() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let queue = GroupCommit(writer: bench.writer, limits: .init(queuedEvents: 3))
            // No writer runs yet, so this waits.
            let waiting = Task {
                try await queue.submit(items((0..<3).map { .sample($0, by: .user(user), at: StorageBench.noon) }))
            }
            try await eventually("three events are queued") { queue.depth == 3 }
            let refusal = await #expect(throws: AppError.self) {
                try await queue.submit(items([.sample(9, by: .user(user), at: StorageBench.noon)]))
            }
            #expect(refusal?.code == .unavailable)
            #expect(refusal?.retryAfter != nil)

            let group = ServiceGroup(services: [queue], logger: Logger(label: "test"))
            let running = Task { try await group.run() }
            #expect(try await waiting.value.count == 3)
            await group.triggerGracefulShutdown()
            try await running.value
        }
    }

    /// The answers that one sender got, call by call.
    private final class Sender: AnswerReceiver {
        private let calls = Mutex<[[Submission.Answer]]>([])
        var all: [[Submission.Answer]] { calls.withLock { $0 } }
        func receive(_ answers: [Submission.Answer]) { calls.withLock { $0.append(answers) } }
    }

    @Test func theAnswersOfATransactionComeToEachSenderTogether() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let senders = [Sender(), Sender()]
            let queue = GroupCommit(writer: bench.writer, limits: .init(queuedEvents: 20))
            let submissions = (0..<10).map { index in
                let events = (0..<2).map {
                    UsageEvent.sample(UInt64(index * 2 + $0), by: .user(user), at: StorageBench.noon)
                }
                return Submission(items(events), ticket: index, receiver: senders[index % 2])
            }
            queue.submit(submissions)
            // The queue is full, so this fails at once.
            queue.submit([
                Submission(
                    items([.sample(99, by: .user(user), at: StorageBench.noon)]), ticket: 99, receiver: senders[0])
            ])
            #expect(senders[0].all.map { $0.map(\.ticket) } == [[99]] && senders[1].all.isEmpty)
            #expect(throws: AppError.self) { try senders[0].all[0][0].result.get() }

            let group = ServiceGroup(services: [queue], logger: Logger(label: "test"))
            let running = Task { try await group.run() }
            try await eventually("all are answered") { senders.allSatisfy { $0.all.last?.count == 5 } }
            #expect(senders[0].all.last?.map(\.ticket) == [0, 2, 4, 6, 8])
            #expect(senders[1].all.map { $0.map(\.ticket) } == [[1, 3, 5, 7, 9]])
            for answer in senders.flatMap({ $0.all.last ?? [] }) {
                #expect(try answer.result.get().count == 2)
            }
            await group.triggerGracefulShutdown()
            try await running.value
        }
    }

    @Test func acceptedRequestsAreAnsweredAfterTheSignalToStop() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let submissions = try await withQueue(bench) { queue in
                let submissions = (0..<20).map { index in
                    Task {
                        try await queue.submit(items([.sample(UInt64(index), by: .user(user), at: StorageBench.noon)]))
                    }
                }
                _ = try await submissions[0].value
                return submissions
            }
            var answered = 0
            for submission in submissions {
                do {
                    answered += try await submission.value.count
                } catch let error as AppError {
                    #expect(error.code == .unavailable)
                }
            }
            #expect(answered > 0)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == answered)
        }
    }
}
