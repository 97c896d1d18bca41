package import Postgres

/// Proves that raw rows, sums and counters say the same, per user and bucket, and says where they do not.
package enum UsageVerification {
    /// A bucket that is wrong.
    package struct Finding: Sendable, Hashable {
        /// The table of sums and whose: `quarters`, `everybody`, `days`, `spans`, or a counter: `daily`, `monthly`.
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

    /// Findings that are told one by one.
    private static let told = 1_000

    /// Compares what lies before the cursors; each level is one statement, so it holds whatever goes on meanwhile.
    ///
    /// Ids that began again are noted first (``IDLine``): by then rows are read that belong to other sums.
    ///
    /// - Throws: ``PostgresError``.
    package static func verify(
        _ range: UsageRange, _ connection: Connection, progress: (String) -> Void = { _ in }
    ) throws -> Report {
        var report = Report()
        for level in UsageLevel.allCases where level != .everybody || range.user == nil {
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
    static func cells(of level: UsageLevel, _ range: UsageRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let cursor = try UsageCursor.read(connection)
            let differences = differences(of: UsageMeasures.names, found: "a.", expected: "e.")
            return try Report(
                connection.query(
                    """
                    WITH \(level.comparison(range, cursor))
                    SELECT \(level.rawValue), coalesce(e.user_id, a.user_id),
                           to_char(\(level.start("coalesce(e.bucket, a.bucket)")), 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                           coalesce(concat_ws(' ', d.model, d.provider, d.status, d.plan), 'a dimension not folded yet'),
                           coalesce(nullif(concat_ws('; ', \(differences)), ''), 'histogram'),
                           count(*) OVER ()
                    FROM \(UsageLevel.joined)
                    LEFT JOIN metering.usage_dimensions d ON d.dimension = coalesce(e.dimension, a.dimension)
                    WHERE \(UsageMeasures.differ)
                    ORDER BY 2, 3, 4
                    LIMIT \(told)
                    """))
        }
    }

    /// The runs of days that are not what they must be; none of those that the next pass makes again.
    static func spans(_ range: UsageRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let cursor = try UsageCursor.read(connection)
            let differences = differences(of: UsageSpans.measures, found: "", expected: "expected_")
            var report = Report()
            for days in UsageSpans.lengths where cursor.hasSpans {
                try report.add(
                    Report(
                        connection.query(
                            """
                            WITH \(UsageSpans.difference(days, range, cursor))
                            SELECT 'spans', user_id, to_char(first_day, 'YYYY-MM-DD"T"00:00:00"Z"'), \("\(days) days"),
                                   concat_ws('; ', \(differences)),
                                   count(*) OVER ()
                            FROM difference ORDER BY 2, 3 LIMIT \(told)
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
                let text = UsageMeasures.amounts.contains(name) ? "trim_scale" : ""
                return """
                    CASE WHEN \(expected)\(name) IS DISTINCT FROM \(found)\(name)
                    THEN '\(name) ' || \(text)(coalesce(\(found)\(name), 0)) || ', should be '
                         || \(text)(coalesce(\(expected)\(name), 0)) END
                    """
            }.joined(separator: ", "))
    }

    /// The counters that are not what they must be.
    static func counters(_ range: UsageRange, _ connection: Connection) throws -> Report {
        try snapshot(connection) { connection in
            let cursor = try UsageCursor.read(connection)
            return try Report(
                connection.query(
                    """
                    WITH \(UsageCounters.difference(range, cursor))
                    SELECT period, user_id, to_char(window_start, 'YYYY-MM-DD"T"00:00:00"Z"'), '',
                           concat_ws('; ',
                               CASE WHEN tokens <> expected_tokens
                                    THEN 'tokens ' || tokens || ', should be ' || expected_tokens END,
                               CASE WHEN requests <> expected_requests
                                    THEN 'requests ' || requests || ', should be ' || expected_requests END,
                               CASE WHEN cost <> expected_cost
                                    THEN 'cost ' || trim_scale(cost) || ', should be ' || trim_scale(expected_cost) END),
                           count(*) OVER ()
                    FROM difference ORDER BY 2, 1, 3 LIMIT \(told)
                    """))
        }
    }
}

extension UsageVerification.Report {
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
