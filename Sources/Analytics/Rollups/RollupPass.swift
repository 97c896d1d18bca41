package import Domain
package import Postgres
import Storage

/// One pass of the aggregation worker: advances the commit horizon, and adds the logs up to it to the rollups, window
/// by window.
///
/// It may be killed between any two statements, and may run in several processes at once: each window and its watermark
/// commit together, and only one process has the state at a time.
package struct RollupPass: Sendable {
    /// What a pass is to roll up.
    package enum Scope: Sendable {
        /// Only rows without an event, which readers are slow to find.
        case laravel
        case everything
    }

    /// How a pass ended.
    package struct Outcome: Sendable, Hashable {
        /// Logs added to the rollups.
        package var rows = 0
        /// Another worker was at work; it does what was left.
        package var isBusy = false
        /// Was asked to stop before its end.
        package var isStopped = false
        /// Open transactions on `api_logs`; rows from theirs on are rolled up when they have ended.
        package var waitingFor: [CommitHorizon.Writer] = []
        /// Logs that are final and may not be rolled up yet: ids, gaps included.
        package var remaining: Int64 = 0
    }

    private let pool: ConnectionPool
    private let now: @Sendable () -> Timestamp
    /// Rows of one transaction.
    private let window: Int
    /// How long it rests after a window, as a multiple of what the window took: ingest comes first.
    private let rest: Int
    /// How long it waits for transactions to end before it rolls up what is final without them.
    private let timeout: Duration

    package init(
        pool: ConnectionPool, window: Int = 100_000, rest: Int = 0, timeout: Duration = .seconds(1),
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.pool = pool
        self.window = window
        self.rest = rest
        self.timeout = timeout
        self.now = now
    }

    /// Rolls up what is final in `scope`, then writes the days.
    ///
    /// `progress` is called after each window and answers whether to go on.
    ///
    /// - Throws: ``Installation/Mismatch``, ``CommitHorizon/CachedSequence``, ``IDLine/BeganAgain``,
    ///   `PostgresError`.
    package func run(
        _ scope: Scope = .everything, progress: @Sendable (Outcome) -> Bool = { _ in true }
    ) async throws -> Outcome {
        let start = ContinuousClock.now
        var outcome = Outcome()
        outcome.waitingFor = try await advanceHorizon()
        let origins: [LogOrigin] = scope == .laravel ? [.laravel] : [.laravel, .events]
        for origin in origins {
            try await rollUp(origin, &outcome, progress)
        }
        while scope == .everything, !outcome.isBusy, !outcome.isStopped {
            let now = now()
            let step = try await pool.transaction { try RollupDays.advance($0, now: now) }
            if step == .staleSpans {
                try await pool.transaction { try RollupSpans.rebuildIfStale($0) }
                continue
            }
            outcome.isBusy = step == .busy
            guard step == .moved else { break }
            outcome.isStopped = !progress(outcome)
        }
        if scope == .everything, !outcome.isBusy, !outcome.isStopped {
            try await record(outcome, took: ContinuousClock.now - start)
        }
        return outcome
    }

    /// Advances the commit horizon until it has reached every id drawn before the pass, or the timeout ends.
    private func advanceHorizon() async throws -> [CommitHorizon.Writer] {
        let deadline = ContinuousClock.now + timeout
        var (pause, isMarked) = (Duration.milliseconds(10), false)
        while true {
            let step: CommitHorizon.Step
            (step, isMarked) = try await IDLine.retrying(pool) {
                try await pool.transaction { [isMarked] connection in
                    try Installation.require(connection)
                    var isMarked = isMarked
                    let step = try CommitHorizon.advance(connection, isMarked: &isMarked)
                    return (step, isMarked)
                }
            }
            if step.hasNewMark { continue }
            guard !step.writers.isEmpty, ContinuousClock.now < deadline else { return step.writers }
            try await Task.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(200))
        }
    }

    private func rollUp(
        _ origin: LogOrigin, _ outcome: inout Outcome, _ progress: @Sendable (Outcome) -> Bool
    ) async throws {
        while !outcome.isBusy, !outcome.isStopped {
            let start = ContinuousClock.now
            let (step, remaining) = try await IDLine.retrying(pool) {
                try await pool.transaction { connection in
                    let step = try RollupWindow.rollUp(origin, limit: window, connection)
                    let state = try RollupState.read(connection)
                    return (step, state.commitHorizon - state.watermark)
                }
            }
            outcome.remaining = remaining
            switch step {
            case .busy: outcome.isBusy = true
            case .staleSpans: try await pool.transaction { try RollupSpans.rebuildIfStale($0) }
            case .rolledUp(let rows, let isLast):
                outcome.rows += rows
                if rows > 0 { outcome.isStopped = !progress(outcome) }
                if isLast { return }
            }
            if rest > 0 { try await Task.sleep(for: (ContinuousClock.now - start) * rest) }
        }
    }

    private func record(_ outcome: Outcome, took duration: Duration) async throws {
        let (rows, milliseconds, now) = (outcome.rows, Int(duration / .milliseconds(1)), now())
        try await pool.withConnection { connection in
            _ = try connection.execute(
                """
                UPDATE metering.rollup_watermark
                SET passed_at = \(now), passed_rows = \(rows), pass_ms = \(milliseconds)
                """)
        }
    }
}

/// Adds a window of the line of ids to the rollups and moves the watermark, in the open transaction.
enum RollupWindow {
    /// What a step did.
    enum Step: Sendable, Hashable {
        /// `isLast` says whether the window ends at the commit horizon.
        case rolledUp(rows: Int, isLast: Bool)
        /// Another worker has the state.
        case busy
        /// Nothing was done: ``RollupSpans/rebuildIfStale(_:)`` comes first.
        case staleSpans
    }

    /// Rolls up at most `limit` rows of `origin` from the watermark on.
    ///
    /// - Throws: ``IDLine/BeganAgain``, after which nothing of the transaction may stay; ``PostgresError``.
    static func rollUp(_ origin: LogOrigin, limit: Int, _ connection: Connection) throws -> Step {
        guard let state = try RollupState.take(connection) else { return .busy }
        guard state.hasSpans else { return .staleSpans }
        let after = state[origin]
        guard after < state.commitHorizon else { return .rolledUp(rows: 0, isLast: true) }
        let through = try end(of: origin, after: after, state.commitHorizon, limit: limit, connection)
        // A window's sorts and hashes stay in memory.
        try connection.executeScript("SET LOCAL work_mem = '64MB'")
        let rows = try write(origin, after: after, through: through, dayBoundary: state.dayBoundary, connection)
        try RollupState.move(origin.column, to: through, connection)
        // After the rows were read: none of them was inserted under an id that was given out again.
        try IDLine.require(connection)
        return .rolledUp(rows: rows, isLast: through == state.commitHorizon)
    }

    /// The position of the window's last row, or where the line is final or an epoch ends: gaps, however wide, cost no
    /// window.
    private static func end(
        of origin: LogOrigin, after: Int64, _ horizon: Int64, limit: Int, _ connection: Connection
    ) throws -> Int64 {
        // So few ids are no more rows: the worker of a second ago needs not count them.
        guard horizon - after > limit else { return horizon }
        let stretch = try origin.firstStretch(after: after, through: horizon, connection)
        let rows = try connection.query(
            "\(origin.positions(after: after, in: stretch)) OFFSET \(limit - 1) LIMIT 1")
        return try rows.first?.decode(0, as: Int64.self) ?? stretch.end
    }

    private static func write(
        _ origin: LogOrigin, after: Int64, through: Int64, dayBoundary: Int, _ connection: Connection
    ) throws -> Int {
        let statement = statement(origin, after: after, through: through, dayBoundary: dayBoundary)
        var (isComplete, rows) = try connection.query(statement)[0].decode(Bool.self, Int.self)
        if !isComplete {
            try RollupDimensions.insertMissing(in: origin.facts(after: after, through: through), connection)
            (isComplete, rows) = try connection.query(statement)[0].decode(Bool.self, Int.self)
        }
        return rows
    }

    /// One statement, so that sums and counters see the same rows. It adds nothing while a row's dimension has no
    /// number.
    private static func statement(_ origin: LogOrigin, after: Int64, through: Int64, dayBoundary: Int) -> Query {
        """
        WITH cell AS MATERIALIZED (
            SELECT coalesce(f.user_id, 0) AS user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension,
                   f.is_self_reported, \(RollupMeasures.ofFacts)
            FROM \(origin.facts(after: after, through: through)) f \(RollupDimensions.join)
            GROUP BY GROUPING SETS ((f.user_id, 2, 3, 4), (2, 3, 4))
            -- What users report themselves is not in the rollups of all users. A log of nobody is in these alone.
            HAVING CASE GROUPING(f.user_id) WHEN 0 THEN f.user_id IS NOT NULL ELSE NOT f.is_self_reported END
        ), complete AS MATERIALIZED (
            SELECT NOT EXISTS (SELECT FROM cell WHERE dimension IS NULL) AS is_complete
        ), rolled_up AS (
            INSERT INTO metering.rollup_15m AS u (user_id, quarter, dimension, \(RollupMeasures.columns))
            SELECT c.user_id, c.quarter, c.dimension, \(RollupMeasures.kept)
            FROM cell c
            WHERE (SELECT is_complete FROM complete)
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, quarter, dimension) DO UPDATE SET \(RollupMeasures.added)
        ), days AS (
            INSERT INTO metering.rollup_day AS u (user_id, day, dimension, \(RollupMeasures.columns))
            SELECT c.user_id, c.day, c.dimension, \(RollupMeasures.kept)
            FROM (
                SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, \(RollupMeasures.ofCells)
                FROM cell c
                WHERE c.quarter < \(dayBoundary) AND (SELECT is_complete FROM complete)
                GROUP BY 1, 2, 3
            ) c
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, day, dimension) DO UPDATE SET \(RollupMeasures.added)
        ), \(RollupSpans.adding(dayBoundary, where: "(SELECT is_complete FROM complete)"))
        \(origin == .laravel ? counted(after: after, through: through) : "")
        SELECT (SELECT is_complete FROM complete),
               (SELECT coalesce(sum(requests), 0)::bigint FROM cell WHERE user_id <> 0)
        """
    }

    /// Adds Laravel's own logs to the counters, without those that it had counted before us, as ``LaravelUsage`` counts
    /// them.
    private static func counted(after: Int64, through: Int64) -> Query {
        """
        , delta AS (
            INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
            SELECT array_agg(d.user_id), array_agg(d.day), array_agg(d.tokens), array_agg(d.requests),
                   array_agg(d.cost)
            FROM (
                SELECT f.user_id, (f.occurred_at AT TIME ZONE 'UTC')::date AS day,
                       \(saturated: "sum(greatest(f.input_tokens, 0)::numeric + greatest(f.output_tokens, 0))")
                           AS tokens,
                       count(*) AS requests, coalesce(sum(f.cost), 0) AS cost
                FROM \(LogOrigin.laravel.facts(after: after, through: through)) f
                WHERE f.log_id > (SELECT counted_log_id FROM metering.installation) AND f.status <> 'rate_limited'
                  AND f.user_id IS NOT NULL
                  AND (SELECT is_complete FROM complete)
                GROUP BY 1, 2
            ) d
            HAVING count(*) > 0
        )
        """
    }
}
