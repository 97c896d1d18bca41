/// What `operation` returns, or `nil` when it takes longer than `limit`; it is cancelled then, but not waited for, so that
/// an operation that does not listen to cancellation cannot hold the caller.
/// - Throws: What `operation` throws; `CancellationError`
package func withDeadline<T: Sendable>(
    _ limit: Duration, sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
    _ operation: @escaping @Sendable () async throws -> T
) async throws -> T? {
    let (outcomes, outcome) = AsyncStream.makeStream(of: Result<T?, any Error>.self)
    let work = Task {
        do { outcome.yield(.success(try await operation())) } catch { outcome.yield(.failure(error)) }
    }
    let timer = Task {
        try await sleep(limit)
        outcome.yield(.success(nil))
    }
    defer {
        work.cancel()
        timer.cancel()
    }
    for await first in outcomes { return try first.get() }
    throw CancellationError()
}
