package import Domain
package import Postgres

/// One round of the aggregation worker: finds what is final and adds it to the sums, window by window.
///
/// Safe to kill between any two statements, and to run in several processes at once: each window and its cursor commit
/// together, and only one process has the cursor at a time.
package struct UsagePass: Sendable {
    /// What a pass is to fold.
    package enum Scope: Sendable {
        /// Only rows without an event, which readers are slow to find.
        case others
        case everything
    }

    /// How a pass ended.
    package struct Outcome: Sendable, Hashable {
        /// Rows added to the sums.
        package var rows = 0
        /// Another worker was at work; it does what was left.
        package var isBusy = false
        /// Was asked to stop before its end.
        package var isStopped = false
        /// Open transactions on `api_logs`; rows from theirs on are folded when they have ended.
        package var waitingFor: [UsageSettlement.Writer] = []
        /// Rows that may still be unfolded although they are final: ids, gaps included.
        package var remaining: Int64 = 0
    }

    private let pool: ConnectionPool
    private let now: @Sendable () -> Timestamp
    /// Rows of one transaction.
    private let window: Int
    /// How long it rests after a window, as a multiple of what the window took: ingest comes first.
    private let rest: Int
    /// How long it waits for transactions to end before it folds what is final without them.
    private let patience: Duration

    package init(
        pool: ConnectionPool, window: Int = 100_000, rest: Int = 0, patience: Duration = .seconds(1),
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.pool = pool
        self.window = window
        self.rest = rest
        self.patience = patience
        self.now = now
    }

    /// Folds what is final in `scope`, then writes the days.
    ///
    /// `progress` is told after each window and answers whether to go on.
    ///
    /// - Throws: ``Installation/Mismatch``, ``UsageSettlement/CachedSequence``, ``IDLine/BeganAgain``,
    ///   `PostgresError`.
    package func run(
        _ scope: Scope = .everything, progress: @Sendable (Outcome) -> Bool = { _ in true }
    ) async throws -> Outcome {
        let start = ContinuousClock.now
        var outcome = Outcome()
        outcome.waitingFor = try await settle()
        let kinds: [UsageKind] = scope == .others ? [.others] : [.others, .events]
        for kind in kinds {
            try await fold(kind, &outcome, progress)
        }
        while scope == .everything, !outcome.isBusy, !outcome.isStopped {
            let now = now()
            let step = try await pool.transaction { try UsageDays.advance($0, now: now) }
            outcome.isBusy = step == .busy
            guard step == .moved else { break }
            outcome.isStopped = !progress(outcome)
        }
        if scope == .everything, !outcome.isBusy, !outcome.isStopped {
            try await record(outcome, took: ContinuousClock.now - start)
        }
        return outcome
    }

    /// Waits until all that was drawn is final, or patience ends.
    private func settle() async throws -> [UsageSettlement.Writer] {
        let deadline = ContinuousClock.now + patience
        var (pause, isMarked) = (Duration.milliseconds(10), false)
        while true {
            let step: UsageSettlement.Step
            (step, isMarked) = try await IDLine.retrying(pool) {
                try await pool.transaction { [isMarked] connection in
                    try Installation.require(connection)
                    var isMarked = isMarked
                    let step = try UsageSettlement.advance(connection, isMarked: &isMarked)
                    return (step, isMarked)
                }
            }
            if step.hasNewMark { continue }
            guard !step.writers.isEmpty, ContinuousClock.now < deadline else { return step.writers }
            try await Task.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(200))
        }
    }

    private func fold(_ kind: UsageKind, _ outcome: inout Outcome, _ progress: @Sendable (Outcome) -> Bool) async throws
    {
        while !outcome.isBusy, !outcome.isStopped {
            let start = ContinuousClock.now
            let (step, remaining) = try await IDLine.retrying(pool) {
                try await pool.transaction { connection in
                    let step = try UsageFold.foldWindow(kind, limit: window, connection)
                    let cursor = try UsageCursor.read(connection)
                    return (step, cursor.settled - cursor.folded)
                }
            }
            outcome.remaining = remaining
            guard let step else {
                outcome.isBusy = true
                return
            }
            outcome.rows += step.rows
            if step.rows > 0 { outcome.isStopped = !progress(outcome) }
            if step.isLast { return }
            if rest > 0 { try await Task.sleep(for: (ContinuousClock.now - start) * rest) }
        }
    }

    private func record(_ outcome: Outcome, took duration: Duration) async throws {
        let (rows, milliseconds, now) = (outcome.rows, Int(duration / .milliseconds(1)), now())
        try await pool.withConnection { connection in
            _ = try connection.execute(
                """
                UPDATE metering.usage_cursor SET passed_at = \(now), passed_rows = \(rows), pass_ms = \(milliseconds)
                """)
        }
    }
}
