internal import Dispatch
package import Postgres

/// What ``eventually(_:within:isolation:)`` waited for did not come true.
package struct NotInTime: Error, CustomStringConvertible {
    package let what: String
    package let deadline: Duration

    package var description: String { "not within \(deadline): \(what)" }
}

/// Waits until `isTrue`, asking every few milliseconds. Use it where nothing can be awaited: another process, a queue's
/// length, a row of another session.
///
/// The error names `what` was waited for.
///
/// - Throws: ``NotInTime`` after `deadline`; `CancellationError`; what `isTrue` throws.
package func eventually(
    _ what: String, within deadline: Duration = .seconds(60), isolation: isolated (any Actor)? = #isolation,
    _ isTrue: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + deadline
    while try await !isTrue() {
        guard ContinuousClock.now < end else { throw NotInTime(what: what, deadline: deadline) }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// A transaction of another session that stays open, as one of Laravel may.
package final class OpenTransaction: Sendable {
    private let task: Task<Void, any Error>
    private let release: DispatchSemaphore

    private init(task: Task<Void, any Error>, release: DispatchSemaphore) {
        self.task = task
        self.release = release
    }

    /// Begins a transaction on a connection of `pool`, and returns after `body`.
    ///
    /// - Throws: `CancellationError`.
    package static func begin(
        _ pool: ConnectionPool, _ body: @escaping @Sendable (Connection) throws -> Void
    ) async throws -> OpenTransaction {
        let release = DispatchSemaphore(value: 0)
        let (begun, beginning) = AsyncStream<Void>.makeStream()
        let task = Task {
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
        return OpenTransaction(task: task, release: release)
    }

    /// Commits the transaction.
    ///
    /// - Throws: What the body of ``begin(_:_:)`` threw; ``PostgresError``.
    package func end() async throws {
        release.signal()
        try await task.value
    }
}
