import Dispatch
import Glibc
import Passwords
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct PasswordQueueTests {
    /// What became of passwords, in the order in which they were done with.
    private final class Outcomes: Sendable {
        private let outcomes = Mutex<[String]>([])
        var all: [String] { outcomes.withLock(\.self) }
        func append(_ outcome: String) { outcomes.withLock { $0.append(outcome) } }
    }

    @Test func passwordsAreHashedAndVerifiedOffThePool() async throws {
        let queue = PasswordQueue()
        let hash = try await queue.hash("secret", cost: 4, for: "a")
        #expect(try await queue.verify("secret", against: hash, cost: 4, for: "a"))
        #expect(try await !queue.verify("other", against: hash, cost: 4, for: "a"))
    }

    @Test func moreWorkThanTheLimitIsRefusedAtOnceAndTheRestIsDone() async throws {
        let queue = PasswordQueue(limit: 2)
        let outcomes = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 {
                group.addTask { (try? await queue.hash("secret", cost: 10, for: "a")) != nil }
            }
            return await group.reduce(into: [Bool]()) { $0.append($1) }
        }
        #expect(outcomes.contains(true) && outcomes.contains(false))
        #expect(try await queue.hash("secret", cost: 4, for: "a").count == 60)
    }

    @Test func aQueueWithoutRoomRefusesEverything() async {
        await #expect(throws: PasswordQueue.Busy.self) {
            try await PasswordQueue(limit: 0).hash("secret", cost: 4, for: "a")
        }
    }

    @Test func aClientWhoFloodsTheQueueDelaysAnotherByOnePasswordWhosePlaceItCannotTake() async throws {
        let queue = PasswordQueue(limit: 8)
        let (done, refused) = (Outcomes(), Outcomes())
        // Nothing is worked off before all have come, and each says itself that its turn was there.
        let (gate, held) = (DispatchSemaphore(value: 0), Outcomes())
        let first = Task {
            try await queue.run(for: "flood") {
                held.append("flood")
                gate.wait()
            }
        }
        try await eventually("the first is worked on") { !held.all.isEmpty }
        let send = { (name: String) -> Task<Void, Never> in
            Task {
                do { try await queue.run(for: name) { done.append(name) } } catch { refused.append(name) }
            }
        }
        var tasks = (0..<20).map { _ in send("flood") }
        try await eventually("12 are refused") { refused.all.count >= 12 }
        tasks += (0..<3).map { send("real \($0)") }
        try await eventually("15 are refused") { refused.all.count >= 15 }
        tasks += (0..<20).map { _ in send("flood") }
        try await eventually("35 are refused") { refused.all.count >= 35 }
        gate.signal()
        for task in tasks { await task.value }
        try await first.value
        #expect(refused.all.allSatisfy { $0 == "flood" })
        // One of the flood's, then the three others in whatever order they came.
        try #require(done.all.count == 8)
        #expect(done.all[0] == "flood", "\(done.all)")
        #expect(Set(done.all[1...3]) == ["real 0", "real 1", "real 2"], "\(done.all)")
    }

    @Test func aCancelledPasswordIsNotHashed() async throws {
        let queue = PasswordQueue(limit: 2)
        let first = Task { try await queue.hash("first", cost: 12, for: "a") }
        let second = Task { try await queue.hash("second", cost: 4, for: "b") }
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        _ = try await first.value
        #expect(try await queue.hash("third", cost: 4, for: "b").count == 60)
    }

    /// The processor time of this thread that a check of a wrong password takes, whatever else runs beside.
    private static func seconds(against hash: String?) -> Double {
        var (start, end) = (timespec(), timespec())
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
        #expect(!Password.verify("wrong", against: hash, cost: 9))
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
        return Double(end.tv_sec - start.tv_sec) + Double(end.tv_nsec - start.tv_nsec) / 1e9
    }

    @Test(arguments: [nil, "x", "$2y$07$", "$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$aGFzaA"])
    func withoutAHashOrWithACheaperOneACheckTakesAsLong(hash: String?) throws {
        let full = try Password.hash("secret", cost: 9)
        let hash = hash == "$2y$07$" ? try Password.hash("secret", cost: 7) : hash
        let times = (0..<5).map { _ in (Self.seconds(against: full), Self.seconds(against: hash)) }
        let (known, other) = (times.map(\.0).sorted()[2], times.map(\.1).sorted()[2])
        #expect(other > known * 0.7 && known > other * 0.7, "\(known) \(other)")
        #expect(Password.verify("secret", against: full, cost: 9))
    }
}
