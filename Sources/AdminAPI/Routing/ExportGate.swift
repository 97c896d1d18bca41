import Domain
import Synchronization

/// Limits how many exports and other long reads run at once. Each holds a database connection that other requests need
/// too.
final class ExportGate: Sendable {
    /// One export's right to run. It ends with ``leave()``, or when nothing holds it any more.
    final class Place: Sendable {
        private let gate: ExportGate
        private let user: Int64
        private let isLeft = Atomic(false)

        fileprivate init(_ gate: ExportGate, _ user: Int64) {
            self.gate = gate
            self.user = user
        }

        deinit { leave() }

        func leave() {
            if !isLeft.exchange(true, ordering: .relaxed) { gate.leave(user) }
        }
    }

    private let limit: Int
    /// The exports that one user may run. Where there are several, some remain for other users.
    private let share: Int
    /// The running exports of each user.
    private let running = Mutex<[Int64: Int]>([:])

    init(limit: Int) {
        self.limit = max(1, limit)
        share = max(1, limit / 3)
    }

    /// A place for an export of `user`.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests` when the user runs too many, `.unavailable` when too many run in all.
    func enter(_ user: Int64) throws -> Place {
        try running.withLock { running in
            guard running[user, default: 0] < share else {
                throw AppError(
                    .tooManyRequests, "Your other export or breakdown still runs. Try again when it has ended.",
                    retryAfter: 10)
            }
            guard running.values.reduce(0, +) < limit else {
                throw AppError(
                    .unavailable, "Too many exports and breakdowns run. Try again in a while.", retryAfter: 10)
            }
            running[user, default: 0] += 1
        }
        return Place(self, user)
    }

    private func leave(_ user: Int64) {
        running.withLock { running in
            let rest = running[user, default: 1] - 1
            running[user] = rest > 0 ? rest : nil
        }
    }
}
