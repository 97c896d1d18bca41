import Domain
import Postgres
import Storage
import Synchronization

/// A worker beside a measurement, in the rhythm of the service: a look every second, and two thirds of the time are ingest's.
final class WorkerBeside: Sendable {
    private static let rest = 2
    private static let look: Duration = .seconds(1)

    private let site: BenchSite
    private let isStopping = Mutex(false)

    init(_ site: BenchSite) {
        self.site = site
    }

    /// Folds until ``stop()``, and returns how many rows. Throws what ``UsagePass`` throws.
    func run() async throws -> Int {
        let pool = site.makePool(connections: 1)
        let result: Result<Int, any Error>
        do { result = .success(try await fold(UsagePass(pool: pool, rest: Self.rest, now: { .now }))) } catch {
            result = .failure(error)
        }
        await pool.close()
        return try result.get()
    }

    /// The window that is under way goes to its end: to cancel it would be an error.
    func stop() {
        isStopping.withLock { $0 = true }
    }

    private func fold(_ pass: UsagePass) async throws -> Int {
        let clock = ContinuousClock()
        var rows = 0
        while !isStopping.withLock({ $0 }) {
            let start = clock.now
            rows += try await pass.run { _ in !self.isStopping.withLock { $0 } }.rows
            try await Task.sleep(for: max(Self.look, (clock.now - start) * Self.rest))
        }
        return rows
    }
}
