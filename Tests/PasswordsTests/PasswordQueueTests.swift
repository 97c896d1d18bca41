import Passwords
import Testing

@Suite struct PasswordQueueTests {
    @Test func `Passwords are hashed and verified off the pool`() async throws {
        let queue = PasswordQueue()
        let hash = try await queue.hash("secret", cost: 4)
        #expect(try await queue.verify("secret", against: hash))
        #expect(try await !queue.verify("other", against: hash))
    }

    @Test func `More work than the limit is refused at once, and the rest is done`() async throws {
        let queue = PasswordQueue(limit: 2)
        let outcomes = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 {
                group.addTask { (try? await queue.hash("secret", cost: 10)) != nil }
            }
            return await group.reduce(into: [Bool]()) { $0.append($1) }
        }
        #expect(outcomes.contains(true) && outcomes.contains(false))
        #expect(try await queue.hash("secret", cost: 4).count == 60)
    }

    @Test func `A queue without room refuses everything`() async {
        await #expect(throws: PasswordQueue.Busy.self) { try await PasswordQueue(limit: 0).hash("secret", cost: 4) }
    }
}
