import Postgres

/// Adds a window of the line of ids to the sums and advances the cursor, in the transaction it is given.
enum UsageFold {
    /// What one window did.
    struct Window: Sendable, Hashable {
        var rows: Int
        /// The cursor behind it.
        var through: Int64
        /// Whether it ends where the line is final.
        var isLast: Bool
    }

    /// Folds at most `limit` rows of `kind` from the cursor on; `nil` where another worker is at work.
    ///
    /// - Throws: ``IDLine/BeganAgain``, after which nothing of the transaction may stay; ``PostgresError``.
    static func foldWindow(_ kind: UsageKind, limit: Int, _ connection: Connection) throws -> Window? {
        guard let cursor = try UsageCursor.take(connection) else { return nil }
        let after = cursor[kind]
        guard after < cursor.settled else { return Window(rows: 0, through: after, isLast: true) }
        let through = try end(of: kind, after: after, cursor.settled, limit: limit, connection)
        // A window's sorts and hashes stay in memory.
        try connection.executeScript("SET LOCAL work_mem = '64MB'")
        let rows = try fold(kind, after: after, through: through, daysBefore: cursor.daysBefore, connection)
        try UsageCursor.move(kind.cursor, to: through, connection)
        // After the rows were read: none of them was inserted under an id that was given out again.
        try IDLine.require(connection)
        return Window(rows: rows, through: through, isLast: through == cursor.settled)
    }

    /// The position of the window's last row, or where the line is final or an epoch ends: gaps, however wide, cost no
    /// window.
    private static func end(
        of kind: UsageKind, after: Int64, _ settled: Int64, limit: Int, _ connection: Connection
    ) throws -> Int64 {
        // So few ids are no more rows: the worker of a second ago needs not count them.
        guard settled - after > limit else { return settled }
        let stretch = try kind.firstStretch(after: after, through: settled, connection)
        let rows = try connection.query(
            "\(kind.positions(after: after, in: stretch)) OFFSET \(limit - 1) LIMIT 1")
        return try rows.first?.decode(0, as: Int64.self) ?? stretch.end
    }

    private static func fold(
        _ kind: UsageKind, after: Int64, through: Int64, daysBefore: Int, _ connection: Connection
    ) throws -> Int {
        let statement = statement(kind, after: after, through: through, daysBefore: daysBefore)
        var (isComplete, rows) = try connection.query(statement)[0].decode(Bool.self, Int.self)
        if !isComplete {
            try UsageDimensions.insertMissing(in: kind.facts(after: after, through: through), connection)
            (isComplete, rows) = try connection.query(statement)[0].decode(Bool.self, Int.self)
        }
        return rows
    }

    /// One statement, so that sums and counters see the same rows. It adds nothing while a row's dimension has no number.
    private static func statement(_ kind: UsageKind, after: Int64, through: Int64, daysBefore: Int) -> Query {
        """
        WITH cell AS MATERIALIZED (
            SELECT coalesce(f.user_id, 0) AS user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension,
                   f.is_self_reported, \(UsageMeasures.ofFacts)
            FROM \(kind.facts(after: after, through: through)) f \(UsageDimensions.join)
            GROUP BY GROUPING SETS ((f.user_id, 2, 3, 4), (2, 3, 4))
            -- What users report themselves is not in the rollups of all users.
            HAVING GROUPING(f.user_id) = 0 OR NOT f.is_self_reported
        ), complete AS MATERIALIZED (
            SELECT NOT EXISTS (SELECT FROM cell WHERE dimension IS NULL) AS is_complete
        ), quarters AS (
            INSERT INTO metering.usage_quarters AS u (user_id, quarter, dimension, \(UsageMeasures.columns))
            SELECT c.user_id, c.quarter, c.dimension, \(UsageMeasures.kept)
            FROM cell c
            WHERE (SELECT is_complete FROM complete)
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, quarter, dimension) DO UPDATE SET \(UsageMeasures.added)
        ), days AS (
            INSERT INTO metering.usage_days AS u (user_id, day, dimension, \(UsageMeasures.columns))
            SELECT c.user_id, c.day, c.dimension, \(UsageMeasures.kept)
            FROM (
                SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, \(UsageMeasures.ofCells)
                FROM cell c
                WHERE c.quarter < \(daysBefore) AND (SELECT is_complete FROM complete)
                GROUP BY 1, 2, 3
            ) c
            ORDER BY 1, 2, 3
            ON CONFLICT (user_id, day, dimension) DO UPDATE SET \(UsageMeasures.added)
        ), \(UsageSpans.adding(daysBefore, where: "(SELECT is_complete FROM complete)"))
        \(kind == .others ? counted(after: after, through: through) : "")
        SELECT (SELECT is_complete FROM complete),
               (SELECT coalesce(sum(requests), 0)::bigint FROM cell WHERE user_id <> 0)
        """
    }

    /// Laravel's rows reach the counters here, those aside that it had counted before us; as ``LaravelUsage`` counts them.
    private static func counted(after: Int64, through: Int64) -> Query {
        """
        , delta AS (
            INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
            SELECT array_agg(d.user_id), array_agg(d.day), array_agg(d.tokens), array_agg(d.requests), array_agg(d.cost)
            FROM (
                SELECT f.user_id, (f.occurred_at AT TIME ZONE 'UTC')::date AS day,
                       least(sum(greatest(f.input_tokens, 0)::numeric + greatest(f.output_tokens, 0)), 9223372036854775807)::bigint
                           AS tokens, count(*) AS requests,
                       coalesce(sum(f.cost), 0) AS cost
                FROM \(UsageKind.others.facts(after: after, through: through)) f
                WHERE f.log_id > (SELECT counted_log_id FROM metering.installation) AND f.status <> 'rate_limited'
                  AND (SELECT is_complete FROM complete)
                GROUP BY 1, 2
            ) d
            HAVING count(*) > 0
        )
        """
    }
}
