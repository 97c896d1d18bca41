import Bootstrap
import Domain
import HTTPSupport
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct ByteBudgetTests {
    /// A deadline that never comes, until it is cancelled.
    @Sendable private static func never(_: Duration) async throws {
        for await _ in AsyncStream<Never>.makeStream().stream {}
        throw CancellationError()
    }

    private func budget(_ capacity: Int) -> ByteBudget {
        ByteBudget(capacity: capacity, sleep: Self.never)
    }

    /// Starts a task that takes `bytes` and returns once it stands in line.
    private func waiter(for bytes: Int, holding held: Int = 0, in budget: ByteBudget) async throws -> Task<
        Void, any Error
    > {
        let before = budget.usage.waiting
        let task = Task { try await budget.acquire(bytes, holding: held) }
        try await eventually("the task waits") { budget.usage.waiting > before }
        return task
    }

    @Test func bytesThatFitAreGrantedAtOnceAndReleasedBytesAreFree() async throws {
        let budget = budget(10)
        try await budget.acquire(4)
        try await budget.acquire(6)
        #expect(budget.usage == (10, 0))
        budget.release(4)
        try await budget.acquire(4)
        #expect(budget.usage == (10, 0))
    }

    @Test func waitingRequestsAreAdmittedInOrder() async throws {
        let budget = budget(10)
        try await budget.acquire(8)
        let large = try await waiter(for: 9, in: budget)
        let small = try await waiter(for: 1, in: budget)
        #expect(budget.usage == (8, 2))
        budget.release(8)
        try await large.value
        try await small.value
        #expect(budget.usage == (10, 0))
    }

    @Test func aBodyLargerThanTheBudgetIsAdmittedAlone() async throws {
        let budget = budget(10)
        try await budget.acquire(1)
        let large = try await waiter(for: 100, in: budget)
        let small = try await waiter(for: 1, in: budget)
        budget.release(1)
        try await large.value
        #expect(budget.usage == (100, 1))
        budget.release(100)
        try await small.value
        #expect(budget.usage == (1, 0))
    }

    @Test func aRequestThatHoldsBytesGoesFirstAndMayUseTheWholeBudget() async throws {
        let budget = budget(10)
        try await budget.acquire(5)
        try await budget.acquire(5)
        let other = try await waiter(for: 5, in: budget)
        let growing = try await waiter(for: 20, holding: 5, in: budget)
        budget.release(5)
        try await growing.value
        #expect(budget.usage == (25, 1))
        budget.release(25)
        try await other.value
        #expect(budget.usage == (5, 0))
    }

    @Test func aTimeoutIsATemporaryFailureAndLeavesTheLine() async throws {
        let budget = ByteBudget(capacity: 10, timeout: .seconds(5), sleep: { #expect($0 == .seconds(5)) })
        try await budget.acquire(10)
        let error = await #expect(throws: AppError.self) { try await budget.acquire(1) }
        #expect(error?.code == .unavailable)
        #expect(error?.retryAfter == 1)
        #expect(budget.usage == (10, 0))
    }

    @Test func aCancelledWaitLeavesTheLineAndAdmitsTheNext() async throws {
        let budget = budget(10)
        try await budget.acquire(8)
        let large = try await waiter(for: 9, in: budget)
        let small = try await waiter(for: 2, in: budget)
        large.cancel()
        await #expect(throws: CancellationError.self) { try await large.value }
        try await small.value
        #expect(budget.usage == (10, 0))
    }

    @Test func aTaskCancelledBeforehandDoesNotWait() async throws {
        let budget = budget(1)
        try await budget.acquire(1)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await budget.acquire(1)
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(budget.usage == (1, 0))
    }

    @Test func manyRequestsSomeCancelledNeverExceedTheBudget() async {
        let budget = budget(100)
        let seen = await withTaskGroup(of: Int?.self) { group in
            for index in 0..<600 {
                group.addTask {
                    let bytes = 1 + index % 60
                    let task = Task {
                        try await budget.acquire(bytes)
                        let used = budget.usage.used
                        await Task.yield()
                        budget.release(bytes)
                        return used
                    }
                    if index.isMultiple(of: 3) { task.cancel() }
                    return try? await task.value
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(budget.usage == (0, 0))
        #expect(seen.compactMap { $0 }.count >= 400)
        #expect(seen.allSatisfy { ($0 ?? 0) <= 100 })
    }

    @Test func aClientAtItsShareWaitsAndDelaysNobody() async throws {
        let (one, other) = (try #require(IPAddress("192.0.2.1")), try #require(IPAddress("192.0.2.2")))
        let budget = ByteBudget(capacity: 100, share: 25, sleep: Self.never)
        try await budget.acquire(20, for: one)
        let mine = Task { try await budget.acquire(10, for: one) }
        try await eventually("one waits") { budget.usage.waiting == 1 }
        // Not even a small piece of the same client goes before it.
        let small = Task { try await budget.acquire(1, for: one) }
        try await eventually("two wait") { budget.usage.waiting == 2 }
        try await budget.acquire(25, for: other)
        try await budget.acquire(55)
        #expect(budget.usage == (100, 2))
        budget.release(55)
        #expect(budget.usage == (45, 2))
        budget.release(20, for: one)
        try await mine.value
        try await small.value
        #expect(budget.usage == (36, 0))
        budget.release(25, for: other)
        budget.release(11, for: one)
        #expect(budget.usage == (0, 0))
    }

    @Test func oneBodyMayBeLargerThanAShare() async throws {
        let one = try #require(IPAddress("192.0.2.1"))
        let budget = ByteBudget(capacity: 100, share: 25, sleep: Self.never)
        try await budget.acquire(20, for: one)
        try await budget.acquire(20, holding: 20, for: one)
        #expect(budget.usage == (40, 0))
    }
}
