package import Postgres
import Storage

/// Makes the rollups and counters of a range that are wrong again from events and logs.
package struct RollupRebuild: Sendable {
    /// Refused: raw rows of the range are gone, and with them would go its history.
    package struct Sealed: Error, Hashable, CustomStringConvertible {
        /// The first moment of which raw rows are kept, RFC 3339.
        package var before: String

        package var description: String {
            """
            Raw rows before \(before) are gone by retention; the sums are all there is of them and cannot be made \
            again. Choose a later --from.
            """
        }
    }

    /// What was repaired.
    package struct Outcome: Sendable, Hashable {
        package var cells = 0
        package var counters = 0
    }

    /// Days of one transaction, which keeps workers waiting.
    private static let days = 31

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Repairs `range`; sums of users whom Laravel has deleted stay as they are.
    ///
    /// Killed, it leaves whole parts repaired; readers see each part before or after.
    ///
    /// - Throws: ``Sealed``, ``PostgresError``.
    package func repair(_ range: RollupRange, progress: (Outcome, _ remainingDays: Int) -> Void) async throws -> Outcome
    {
        _ = try await pool.withConnection { try IDLine.look($0) }
        try await pool.transaction { connection in
            try Self.requireUnsealed(range, connection)
            // A raw row that somebody changed may have a dimension that no rolled up row had.
            let state = try RollupState.hold(connection)
            for origin in LogOrigin.allCases {
                try RollupDimensions.insertMissing(
                    in: "(\(range.facts(of: origin, through: state[origin])))", connection)
            }
        }
        var outcome = Outcome()
        let parts = range.parts(days: Self.days)
        for (index, part) in parts.enumerated() {
            let repaired = try await IDLine.retrying(pool) { try await pool.transaction { try Self.repair(part, $0) } }
            outcome.cells += repaired.cells
            outcome.counters += repaired.counters
            progress(outcome, (parts.count - index - 1) * Self.days)
        }
        return outcome
    }

    /// - Throws: ``Sealed`` where the range begins before the seal.
    package static func requireUnsealed(_ range: RollupRange, _ connection: Connection) throws {
        guard range.quarterHours.lowerBound < (try RollupState.read(connection)).sealedBefore else { return }
        let before = try connection.query(
            #"SELECT to_char(sealed_before, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM metering.rollup_watermark"#
        )[0].decode(0, as: String.self)
        throw Sealed(before: before)
    }

    /// Repairs `range` in the open transaction; dimensions of its rows have their numbers.
    ///
    /// - Throws: ``Sealed``, ``PostgresError``.
    static func repair(_ range: RollupRange, _ connection: Connection) throws -> Outcome {
        let state = try RollupState.hold(connection)
        try requireUnsealed(range, connection)
        try connection.executeScript("SET LOCAL work_mem = '64MB'")
        var outcome = Outcome()
        // All users' row and the days are sums of what the level before has just repaired.
        for level in RollupLevel.allCases {
            let scope = level == .allUsers ? RollupRange(quarterHours: range.quarterHours) : range
            outcome.cells += try repair(level, scope, state, connection)
            if level == .quarterHours { outcome.cells += try clearAmounts(range, connection) }
        }
        if range.user != nil {
            let ofAllUsers = RollupRange(quarterHours: range.quarterHours, user: 0)
            outcome.cells += try repair(.days, ofAllUsers, state, connection)
        }
        // Stale spans are made again, all of them, by the next pass.
        if state.hasSpans { outcome.cells += try RollupSpans.repair(range, state, connection) }
        outcome.counters = try repairCounters(range, state, connection)
        // After the rows were read: none of them was inserted under an id that was given out again.
        try IDLine.require(connection)
        return outcome
    }

    /// Sets what is still NaN after the cells were made again: of users whom Laravel has deleted, whose prices nobody
    /// knows.
    private static func clearAmounts(_ range: RollupRange, _ connection: Connection) throws -> Int {
        try connection.execute(
            """
            UPDATE metering.rollup_15m u
            SET unpriced = u.requests, cost = metering.finite(u.cost), ledger_cost = metering.finite(u.ledger_cost)
            WHERE \(range.contains(quarter: "u.quarter")) AND \(range.contains(user: "u.user_id"))
              AND (metering.finite(u.cost), metering.finite(u.ledger_cost)) <> (u.cost, u.ledger_cost)
            """)
    }

    private static func repair(
        _ level: RollupLevel, _ range: RollupRange, _ state: RollupState, _ connection: Connection
    ) throws -> Int {
        try connection.query(
            """
            WITH \(level.comparison(range, state)), difference AS MATERIALIZED (
                SELECT coalesce(e.user_id, a.user_id) AS user_id, coalesce(e.bucket, a.bucket) AS bucket,
                       coalesce(e.dimension, a.dimension) AS dimension, e.user_id IS NULL AS is_surplus,
                       \(RollupMeasures.ofExpected)
                FROM \(RollupLevel.joined)
                WHERE \(RollupMeasures.differ)
            ), removed AS (
                DELETE FROM \(level.table) t USING difference d
                WHERE d.is_surplus AND t.user_id = d.user_id AND t.\(level.bucket) = d.bucket
                  AND t.dimension = d.dimension
            ), written AS (
                INSERT INTO \(level.table) (user_id, \(level.bucket), dimension, \(RollupMeasures.columns))
                SELECT c.user_id, c.bucket, c.dimension, \(RollupMeasures.kept)
                FROM difference c WHERE NOT c.is_surplus
                ORDER BY 1, 2, 3
                ON CONFLICT (user_id, \(level.bucket), dimension) DO UPDATE SET \(RollupMeasures.replaced)
            )
            SELECT count(*) FROM difference
            """)[0].decode(0, as: Int.self)
    }

    /// Sets each counter to what it must be, without what is in pending deltas. The background job that adds deltas to
    /// counters waits meanwhile; what ingest adds is in new deltas and stays. Adding a difference would not repair a
    /// counter that is NaN.
    private static func repairCounters(
        _ range: RollupRange, _ state: RollupState, _ connection: Connection
    ) throws -> Int {
        try QuotaCounters.keepOut(connection)
        return try connection.execute(
            """
            WITH \(ExpectedCounters.difference(range, state))
            INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests, cost)
            SELECT user_id, period, window_start,
                   \(unsafeSQL: Query.saturated("expected_tokens - pending_tokens")),
                   expected_requests - pending_requests, expected_cost - pending_cost
            FROM difference
            ORDER BY window_start, period, user_id
            ON CONFLICT (window_start, period, user_id) DO UPDATE
            SET tokens = excluded.tokens, requests = excluded.requests, cost = excluded.cost
            """)
    }
}
