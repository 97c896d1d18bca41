import Synchronization
import TestSupport
import Testing

@testable import AdminAPI

/// Equal questions share an answer that begins after each of them.
@Suite(.timeLimit(.minutes(30))) struct SharedReadTests {
    /// Answers that end when the test says so.
    private final class Reads: Sendable {
        private struct State {
            var begun = 0
            var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
            var ended: Set<Int> = []
        }

        private let state = Mutex(State())

        var begun: Int { state.withLock { $0.begun } }

        /// Begins the next answer, its number from 1, and waits until ``end(_:)``.
        func read() async -> Int {
            let number = state.withLock { state in
                state.begun += 1
                return state.begun
            }
            await withCheckedContinuation { continuation in
                let hasEnded = state.withLock { state in
                    if !state.ended.contains(number) { state.waiting[number] = continuation }
                    return state.ended.contains(number)
                }
                if hasEnded { continuation.resume() }
            }
            return number
        }

        func end(_ number: Int) {
            let continuation = state.withLock { state in
                state.ended.insert(number)
                return state.waiting.removeValue(forKey: number)
            }
            continuation?.resume()
        }
    }

    private struct Failed: Error {}

    @Test func theNextAnswerIsOfAllWhoCameDuringTheOneBefore() async throws {
        let (shared, reads) = (SharedReads<String, Int>(), Reads())
        async let first = shared.answer(to: "a") { await reads.read() }
        try await eventually("the first answer begins") { reads.begun == 1 }
        let others = (1...15).map { _ in Task { try await shared.answer(to: "a") { await reads.read() } } }
        try await eventually("all wait") { shared.waiting == 16 }
        reads.end(1)
        #expect(try await first == 1)
        try await eventually("the second answer begins") { reads.begun == 2 }
        reads.end(2)
        for other in others { #expect(try await other.value == 2) }
        #expect(reads.begun == 2 && shared.waiting == 0)
    }

    @Test func otherQuestionsHaveAnswersOfTheirOwn() async throws {
        let (shared, reads) = (SharedReads<String, Int>(), Reads())
        async let first = shared.answer(to: "a") { await reads.read() }
        async let second = shared.answer(to: "b") { await reads.read() }
        try await eventually("both answers begin") { reads.begun == 2 }
        reads.end(1)
        reads.end(2)
        #expect(try await Set([first, second]) == [1, 2])
    }

    @Test func aFailureIsOfThoseWhoSharedIt() async throws {
        let (shared, reads) = (SharedReads<String, Int>(), Reads())
        let first = Task {
            try await shared.answer(to: "a") {
                _ = await reads.read()
                throw Failed()
            }
        }
        try await eventually("the first answer begins") { reads.begun == 1 }
        let second = Task { try await shared.answer(to: "a") { await reads.read() } }
        try await eventually("the second waits") { shared.waiting == 2 }
        reads.end(1)
        await #expect(throws: Failed.self) { try await first.value }
        reads.end(2)
        #expect(try await second.value == 2)
    }

    @Test func whoIsCancelledLeavesTheOthersTheirAnswer() async throws {
        let (shared, reads) = (SharedReads<String, Int>(), Reads())
        let first = Task { try await shared.answer(to: "a") { await reads.read() } }
        try await eventually("the first answer begins") { reads.begun == 1 }
        let leaves = Task { try await shared.answer(to: "a") { await reads.read() } }
        let stays = Task { try await shared.answer(to: "a") { await reads.read() } }
        try await eventually("all wait") { shared.waiting == 3 }
        leaves.cancel()
        await #expect(throws: CancellationError.self) { try await leaves.value }
        reads.end(1)
        reads.end(2)
        #expect(try await (first.value, stays.value) == (1, 2))
    }

    @Test func aReadForWhichNobodyWaitsIsCancelled() async throws {
        let shared = SharedReads<String, Bool>()
        let isReading = Mutex(false)
        let wasCancelled = Mutex(false)
        let only = Task {
            try await shared.answer(to: "a") {
                isReading.withLock { $0 = true }
                do { try await Task.sleep(for: .seconds(600)) } catch { wasCancelled.withLock { $0 = true } }
                return true
            }
        }
        try await eventually("it reads") { isReading.withLock { $0 } }
        only.cancel()
        await #expect(throws: CancellationError.self) { try await only.value }
        try await eventually("the read is cancelled") { wasCancelled.withLock { $0 } && shared.waiting == 0 }
    }

    @Test func aCancelledTaskAsksNothing() async throws {
        let (shared, reads) = (SharedReads<String, Int>(), Reads())
        let cancelled = Task {
            while !Task.isCancelled { await Task.yield() }
            return try await shared.answer(to: "a") { await reads.read() }
        }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        #expect(reads.begun == 0 && shared.waiting == 0)
    }
}
