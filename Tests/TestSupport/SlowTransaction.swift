internal import Dispatch
package import Postgres
internal import Synchronization

/// A transaction that stays open between its work and its end, which is a COMMIT or a ROLLBACK.
package final class SlowTransaction: Sendable {
    private struct RolledBack: Error {}

    private let task: Task<[Int64], any Error>
    private let release = DispatchSemaphore(value: 0)
    private let choice = Choice()

    /// Begins it, and returns when `body` has run.
    package init(_ pool: ConnectionPool, _ body: @escaping @Sendable (Connection) throws -> [Int64]) async throws {
        let (begun, beginning) = AsyncStream<Void>.makeStream()
        let gate = release
        let choice = choice
        task = Task {
            defer { beginning.finish() }
            return try await pool.withConnection { connection in
                try connection.transaction { connection in
                    let ids = try body(connection)
                    beginning.finish()
                    gate.wait()
                    if !choice.commits { throw RolledBack() }
                    return ids
                }
            }
        }
        for await _ in begun {}
    }

    /// How it is to end.
    private final class Choice: Sendable {
        private let value = Mutex(false)
        var commits: Bool { value.withLock { $0 } }
        func commit() { value.withLock { $0 = true } }
    }

    /// Ends it, and returns what its body returned; nothing where it was rolled back.
    package func end(commits: Bool) async throws -> [Int64] {
        if commits { choice.commit() }
        release.signal()
        do { return try await task.value } catch is RolledBack { return [] }
    }
}
