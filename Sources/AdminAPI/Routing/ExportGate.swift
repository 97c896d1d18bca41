import Domain
import Synchronization

/// Limits how many exports and other long answers there are at once. An export holds a database connection that other
/// requests need too.
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

    private let busy: AppError
    private let full: AppError

    /// A gate of exports: a user may have a third of the places.
    convenience init(limit: Int) {
        self.init(
            limit: limit, share: limit / 3,
            busy: "Your other export or breakdown still runs. Try again when it has ended.",
            full: "Too many exports and breakdowns run. Try again in a while.")
    }

    /// A gate of `limit` places, of which a user may have `share`. `busy` says that the user has them all, `full` that
    /// all are taken.
    init(limit: Int, share: Int, busy: String, full: String) {
        self.limit = max(1, limit)
        self.share = max(1, share)
        self.busy = AppError(.tooManyRequests, busy, retryAfter: 10)
        self.full = AppError(.unavailable, full, retryAfter: 10)
    }

    /// A place for an export of `user`.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests` when the user runs too many, `.unavailable` when too many run in all.
    func enter(_ user: Int64) throws -> Place {
        try running.withLock { running in
            guard running[user, default: 0] < share else { throw busy }
            guard running.values.reduce(0, +) < limit else { throw full }
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
