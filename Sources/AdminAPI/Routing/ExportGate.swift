import Domain
import Synchronization

/// How many exports run at once: each holds a connection as long as its reader takes, and the others must not starve.
final class ExportGate: Sendable {
    private let limit: Int
    private let running = Mutex(0)

    init(limit: Int) {
        self.limit = max(1, limit)
    }

    /// - Throws: ``AppError`` `.unavailable` when all places are taken.
    func requireFree() throws {
        guard running.withLock({ $0 < limit }) else { throw Self.busy }
    }

    /// Does `work` in a place of its own.
    ///
    /// - Throws: ``AppError`` `.unavailable` when all places are taken; what `work` throws.
    func run(_ work: () async throws -> Void) async throws {
        let isAdmitted = running.withLock { count in
            guard count < limit else { return false }
            count += 1
            return true
        }
        guard isAdmitted else { throw Self.busy }
        defer { running.withLock { $0 -= 1 } }
        try await work()
    }

    private static let busy = AppError(.unavailable, "Too many exports run. Try again in a while.", retryAfter: 10)
}
