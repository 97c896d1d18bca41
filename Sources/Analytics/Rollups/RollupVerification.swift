package import Postgres
import Storage

/// Verifies that logs, rollups and counters agree, for each user and bucket, and reports where they do not.
package enum RollupVerification {
    /// A bucket that is wrong.
    package struct Finding: Sendable, Hashable {
        /// A ``RollupLevel``, `spans`, or a counter's period: `daily` or `monthly`.
        package var level: String
        package var user: Int64
        /// When the bucket begins, RFC 3339.
        package var bucket: String
        /// Model, provider, status and plan; of a span how long it is; empty of a counter.
        package var dimension: String
        /// The measures that differ, such as `requests 3, should be 2`.
        package var difference: String
    }

    /// What was found: the first findings, and how many there are.
    package struct Report: Sendable, Hashable {
        package var findings: [Finding] = []
        package var count = 0
    }

    /// Findings that are reported one by one.
    private static let reported = 1_000

    /// Compares what lies before the watermarks; each level is one statement, so it holds whatever goes on meanwhile.
    ///
    /// Ids that began again are noted first (``IDLine``): by then rows are read that belong to other sums.
    ///
    /// - Throws: ``PostgresError``.
    package static func verify(
        _ range: RollupRange, _ connection: Connection, progress: (String) -> Void = { _ in }
    ) throws -> Report {
        var report = Report()
        for level in RollupLevel.allCases where level != .allUsers || range.user == nil {
            progress(level.rawValue)
            try report.add(cells(of: level, range, connection))
        }
        progress("spans")
        try report.add(spans(range, connection))
        progress("counters")
        try report.add(counters(range, connection))
        return report
    }

    /// The cells of a level that are not what they must be.
    static func cells(of level: RollupLevel, _ range: RollupRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let state = try RollupState.read(connection)
            let differences = differences(of: RollupMeasures.names, found: "a.", expected: "e.")
            return try Report(
                connection.query(
                    """
                    WITH \(level.comparison(range, state))
                    SELECT \(level.rawValue), coalesce(e.user_id, a.user_id),
                           to_char(\(level.start("coalesce(e.bucket, a.bucket)")), 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                           coalesce(concat_ws(' ', d.model, d.provider, d.status, d.plan),
                                    'a dimension that is not rolled up yet'),
                           coalesce(nullif(concat_ws('; ', \(differences)), ''), 'histogram'),
                           count(*) OVER ()
                    FROM \(RollupLevel.joined)
                    LEFT JOIN metering.rollup_dimension d ON d.dimension = coalesce(e.dimension, a.dimension)
                    WHERE \(RollupMeasures.differ)
                    ORDER BY 2, 3, 4
                    LIMIT \(reported)
                    """))
        }
    }

    /// The spans that are not what they must be; none while they are stale, as the next pass makes them again.
    static func spans(_ range: RollupRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let state = try RollupState.read(connection)
            let differences = differences(of: RollupSpans.measures, found: "", expected: "expected_")
            var report = Report()
            for days in RollupSpans.lengths where state.hasSpans {
                try report.add(
                    Report(
                        connection.query(
                            """
                            WITH \(RollupSpans.difference(days, range, state))
                            SELECT 'spans', user_id, to_char(first_day, 'YYYY-MM-DD"T"00:00:00"Z"'), \("\(days) days"),
                                   concat_ws('; ', \(differences)),
                                   count(*) OVER ()
                            FROM difference ORDER BY 2, 3 LIMIT \(reported)
                            """)))
            }
            return report
        }
    }

    /// Does `body` in a snapshot in which no id was given out again.
    private static func snapshot<T>(_ connection: Connection, _ body: (Connection) throws -> T) throws -> T {
        try IDLine.retrying(connection) { connection in
            try connection.transaction(.snapshot) { connection in
                let result = try body(connection)
                try IDLine.require(connection)
                return result
            }
        }
    }

    /// The texts of the measures that differ, of columns with these prefixes.
    private static func differences(of measures: [String], found: String, expected: String) -> Query {
        Query(
            unsafeSQL: measures.map { name in
                // Amounts in the one form of money.
                let text = RollupMeasures.amounts.contains(name) ? "trim_scale" : ""
                return """
                    CASE WHEN \(expected)\(name) IS DISTINCT FROM \(found)\(name)
                    THEN '\(name) ' || \(text)(coalesce(\(found)\(name), 0)) || ', should be '
                         || \(text)(coalesce(\(expected)\(name), 0)) END
                    """
            }.joined(separator: ", "))
    }

    /// The counters that are not what they must be.
    static func counters(_ range: RollupRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let state = try RollupState.read(connection)
            return try Report(
                connection.query(
                    """
                    WITH \(ExpectedCounters.difference(range, state))
                    SELECT period, user_id, to_char(window_start, 'YYYY-MM-DD"T"00:00:00"Z"'), '',
                           concat_ws('; ',
                               CASE WHEN tokens <> expected_tokens
                                    THEN 'tokens ' || tokens || ', should be ' || expected_tokens END,
                               CASE WHEN requests <> expected_requests
                                    THEN 'requests ' || requests || ', should be ' || expected_requests END,
                               CASE WHEN cost <> expected_cost
                                    THEN 'cost ' || trim_scale(cost)
                                         || ', should be ' || trim_scale(expected_cost) END),
                           count(*) OVER ()
                    FROM difference ORDER BY 2, 1, 3 LIMIT \(reported)
                    """))
        }
    }
}

extension RollupVerification.Report {
    /// Rows of level, user, bucket, dimension, difference and the number of all.
    init(_ rows: [Row]) throws {
        for row in rows {
            let (level, user, bucket, dimension, difference, count) = try row.decode(
                String.self, Int64.self, String.self, String.self, String.self, Int.self)
            findings.append(
                .init(level: level, user: user, bucket: bucket, dimension: dimension, difference: difference))
            self.count = count
        }
    }

    mutating func add(_ other: Self) {
        findings += other.findings
        count += other.count
    }
}

/// What the counters of `metering.quota_usage` must be: made from the raw rows, as ingest and the rollup pass count
/// them.
///
/// Budgets were first counted in the month of the migration that brought them, and not before.
enum ExpectedCounters {
    /// The migration that brought `quota_usage.cost`.
    private static let budgetMigration = 11

    /// The first day, `since`, of which costs are counted.
    static let budgetedSince: Query = """
        SELECT date_trunc('month', min(applied_at) AT TIME ZONE 'UTC')::date AS since
        FROM metering.schema_migrations WHERE version = \(budgetMigration)
        """

    /// CTE `difference` of (user_id, period, window_start, and what each counter lacks), of the windows that touch
    /// `range`.
    ///
    /// A counter is what is in quota_usage and in the deltas that are not rolled up yet (`pending_`). Windows before
    /// the seal, and users whom Laravel has deleted, are left out: their raw rows are gone.
    static func difference(_ range: RollupRange, _ state: RollupState) -> Query {
        let range = range.unsealed(state)
        let rows = range.wholeMonths
        let people: Query = "user_id IN (SELECT id FROM public.users) AND \(range.contains(user: "user_id"))"
        return """
            installed AS (
                SELECT counted_log_id, (counted_at AT TIME ZONE 'UTC')::date AS counted_day FROM metering.installation
            ), budgeted AS (
                \(budgetedSince)
            ), contribution AS (
                SELECT user_id, (occurred_at AT TIME ZONE 'UTC')::date AS day, quota_tokens AS tokens,
                       quota_requests::bigint AS requests, coalesce(cost, 0) AS cost, false AS is_seed
                FROM metering.events
                WHERE quota_requests > 0 AND \(rows.isNear(key: "event_key")) AND \(people)
                UNION ALL
                SELECT user_id, (occurred_at AT TIME ZONE 'UTC')::date,
                       greatest(input_tokens, 0)::numeric + greatest(output_tokens, 0),
                       1, coalesce(cost, 0), log_id <= (SELECT counted_log_id FROM installed)
                FROM (\(rows.facts(of: .laravel, through: state.laravelWatermark))) f
                WHERE status <> 'rate_limited' AND \(people)
            ), expected AS (
                SELECT c.user_id, w.period, w.window_start, sum(c.tokens) AS tokens, sum(c.requests) AS requests,
                       sum(c.cost) FILTER (WHERE NOT c.is_seed) AS cost
                FROM contribution c, installed i,
                     LATERAL (VALUES ('daily', c.day, i.counted_day),
                                     ('monthly', date_trunc('month', c.day::timestamp)::date,
                                      date_trunc('month', i.counted_day::timestamp)::date)
                     ) AS w (period, window_start, counted_window)
                WHERE NOT c.is_seed OR w.window_start = w.counted_window
                GROUP BY 1, 2, 3
            ), actual AS (
                SELECT user_id, period, window_start, sum(tokens) AS tokens, sum(requests) AS requests,
                       sum(cost) AS cost, sum(tokens) FILTER (WHERE is_pending) AS pending_tokens,
                       sum(requests) FILTER (WHERE is_pending) AS pending_requests,
                       sum(cost) FILTER (WHERE is_pending) AS pending_cost
                FROM (
                    SELECT user_id, period, window_start, tokens, requests, cost, false AS is_pending
                    FROM metering.quota_usage
                    UNION ALL
                    SELECT d.user_id, w.period, w.window_start, d.tokens, d.requests, metering.finite(d.cost), true
                    FROM metering.quota_deltas q,
                         LATERAL unnest(q.user_ids, q.days, q.tokens, q.requests, q.costs)
                             AS d (user_id, day, tokens, requests, cost),
                         LATERAL (VALUES ('daily', d.day), ('monthly', date_trunc('month', d.day::timestamp)::date)
                         ) AS w (period, window_start)
                ) u
                WHERE \(people)
                GROUP BY 1, 2, 3
            ), compared AS (
                SELECT user_id, period, window_start,
                       least(coalesce(e.tokens, 0), 9223372036854775807) AS expected_tokens,
                       coalesce(e.requests, 0) AS expected_requests,
                       CASE WHEN window_start >= b.since THEN coalesce(e.cost, 0) ELSE metering.finite(a.cost) END
                           AS expected_cost,
                       coalesce(a.pending_tokens, 0) AS pending_tokens,
                       coalesce(a.pending_requests, 0) AS pending_requests,
                       coalesce(a.pending_cost, 0) AS pending_cost,
                       least(coalesce(a.tokens, 0), 9223372036854775807) AS tokens, coalesce(a.requests, 0) AS requests,
                       coalesce(a.cost, 0) AS cost
                FROM (expected e FULL JOIN actual a USING (user_id, period, window_start)) CROSS JOIN budgeted b
                WHERE \(touches(range, sealedBefore: state.sealedBefore)) AND \(isProvable(state))
            ), difference AS (
                SELECT * FROM compared
                WHERE (expected_tokens, expected_requests, expected_cost) <> (tokens, requests, cost)
            )
            """
    }

    /// Whether no row of the window was removed when the ids began again: of the user's rows without an event, that is.
    private static func isProvable(_ state: RollupState) -> Query {
        guard state.logsSealedBefore > RollupRange.allTime.lowerBound else { return "true" }
        return """
            NOT EXISTS (
                SELECT FROM metering.rollup_15m s
                WHERE s.user_id = coalesce(e.user_id, a.user_id) AND s.quarter < \(state.logsSealedBefore)
                  AND s.quarter >= metering.quarter_of(window_start::timestamp AT TIME ZONE 'UTC')
                  AND NOT \(RollupDimensions.areOfEvents("s.dimension")))
            """
    }

    /// Whether a window shares a day with the range and begins after the seal.
    private static func touches(_ range: RollupRange, sealedBefore: Int) -> Query {
        let end: Query =
            "(window_start + CASE period WHEN 'daily' THEN interval '1 day' ELSE interval '1 month' END)::date"
        return """
            \(RollupRange(quarterHours: sealedBefore..<Int(Int32.max)).contains(day: "window_start"))
            AND \(range.overlaps(from: "window_start", to: end))
            """
    }
}
