import Domain
import Postgres
import Storage

/// A worker that folds pass after pass beside a measurement, and rests twice as long as it works: ingest comes first.
struct WorkerBeside: Sendable {
    private static let rest = 2

    private let task: Task<Int, any Error>

    init(_ site: BenchSite) {
        task = Task {
            let pool = site.makePool(connections: 1)
            let result: Result<Int, any Error>
            do { result = .success(try await Self.fold(UsagePass(pool: pool, rest: Self.rest, now: { .now }))) } catch {
                result = .failure(error)
            }
            await pool.close()
            return try result.get()
        }
    }

    /// Lets the window end that is under way, and returns how many rows were folded. Throws what ``UsagePass`` throws.
    func stop() async throws -> Int {
        task.cancel()
        return try await task.value
    }

    private static func fold(_ pass: UsagePass) async throws -> Int {
        let clock = ContinuousClock()
        var rows = 0
        do {
            while !Task.isCancelled {
                let start = clock.now
                rows += try await pass.run { _ in !Task.isCancelled }.rows
                try await Task.sleep(for: (clock.now - start) * rest)
            }
        } catch is CancellationError {}
        return rows
    }
}
