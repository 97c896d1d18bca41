internal import Dispatch
package import Postgres

/// Somebody else's transaction that stays open, as Laravel's might.
package final class OpenTransaction: Sendable {
    private let task: Task<Void, any Error>
    private let release = DispatchSemaphore(value: 0)

    /// Begins a transaction with `body` on a connection of its own and returns when `body` has run.
    package init(_ pool: ConnectionPool, _ body: @escaping @Sendable (Connection) throws -> Void) async throws {
        let (begun, beginning) = AsyncStream<Void>.makeStream()
        task = Task { [release] in
            defer { beginning.finish() }
            try await pool.withConnection { connection in
                try connection.transaction { connection in
                    try body(connection)
                    beginning.finish()
                    release.wait()
                }
            }
        }
        for await _ in begun {}
    }

    /// Commits it.
    package func end() async throws {
        release.signal()
        try await task.value
    }
}
