package import Domain
package import Postgres

/// Gives every item of a batch its verdict and commits all of them in one transaction (`design.md` §4).
package struct EventWriter: Sendable {
    /// What becomes of an event whose user's row somebody's open transaction holds.
    package enum LockedUsers: Sendable {
        /// It gets no verdict; the caller tries again.
        case tryAgain
        /// It is put aside, durably, and stored by a replay.
        case quarantine
    }

    /// Transactions of one batch before an unknown outcome, or events that are withdrawn meanwhile, are given up.
    private static let attempts = 3

    private let pool: ConnectionPool
    private let attribution: EventAttribution
    private let now: @Sendable () -> Timestamp
    let memory = IDLine.Memory()

    package init(pool: ConnectionPool, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.now = now
        attribution = EventAttribution(pool: pool, now: now)
    }

    /// The verdicts of `items`, in their order, all of them durable; `nil` for an event to try again.
    ///
    /// - Throws: ``PostgresError`` when nothing could be committed; ``Installation/Mismatch``; ``AppError``
    ///   `.unavailable` when the ids of `api_logs` began again each time.
    package func write(_ items: [IngestItem], lockedUsers: LockedUsers) async throws -> [Verdict?] {
        let batch = IngestBatch(items, attributions: try await attributions(of: items))
        return try await commit { connection, isolatesFailures, now in
            try batch.settle(
                connection, after: memory, lockedUsers: lockedUsers, isolatesFailures: isolatesFailures, now: now)
        }
    }

    /// What is known of each item; where Laravel's `users` is not as we know it, everything waits in quarantine.
    private func attributions(of items: [IngestItem]) async throws -> [EventAttribution.Outcome] {
        do {
            return try await attribution.attribute(items)
        } catch let error as PostgresError where error.isRefusal {
            return items.map { .refused($0, error) }
        }
    }

    /// Does `body` in one transaction, with the time at which it began.
    ///
    /// One event's trouble is its own: when a set-based statement fails for another reason than the database being unavailable,
    /// `body` runs in a second transaction, is told so, and bisects down to the one event.
    func commit<T: Sendable>(
        _ body: @Sendable (Connection, _ isolatesFailures: Bool, Timestamp) throws -> T
    ) async throws -> T {
        let now = now()
        do {
            return try await transaction { try body($0, false, now) }
        } catch let error as PostgresError where error.isRefusal {
            return try await transaction { try body($0, true, now) }
        } catch is EventInsert.Unproven {
            return try await transaction { try body($0, true, now) }
        }
    }

    private func transaction<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        var attempt = 1
        while true {
            do {
                return try await pool.transaction { try body($0) }
            } catch let error as PostgresError where error.isUnknownOutcome && attempt < Self.attempts {
                // Every event has its key by now, nameless ones too: what the lost COMMIT stored is recognised.
                attempt += 1
            } catch is EventInsert.WithdrawnMeanwhile where attempt < Self.attempts {
                attempt += 1
            } catch let error as IDLine.BeganAgain {
                guard attempt < Self.attempts else { throw AppError(.unavailable, error.description, retryAfter: 1) }
                attempt += 1
                _ = try await pool.withConnection { try IDLine.look($0) }
            }
        }
    }
}

extension PostgresError {
    /// Whether PostgreSQL refused the statement for what it says, so that a part of it may succeed.
    var isRefusal: Bool { sqlState != nil && !isTransient && sqlState != "57014" }

    /// Whether a COMMIT was sent and nobody can tell what became of it.
    var isUnknownOutcome: Bool { if case .commitOutcomeUnknown = kind { true } else { false } }
}
