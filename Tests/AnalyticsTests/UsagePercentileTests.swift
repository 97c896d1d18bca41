import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Percentiles from sums and tail are within 2 % of `percentile_disc` over the rows, for any window and group.
@Suite(.timeLimit(.minutes(30))) struct UsagePercentileTests {
    /// Durations of a row from `r`, even in 0 to 1.
    private static let shapes: [Query] = [
        // Heavy-tailed, with a hundredth beyond two minutes.
        "least(20 * (1 - r) ^ (-1.8), 2000000000)",
        "CASE WHEN r < 0.5 THEN 40 + r ELSE 90000 * (1 + r) END", "1250", "r * 3",
    ]

    @Test(arguments: shapes.indices)
    func percentilesAreWithinTwoPercent(_ shape: Int) async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for user in [ada, bob] {
                try await bench.fill(
                    user, count: 6_000, from: "2026-11-01", to: "2026-11-23 11:59:00", duration: Self.shapes[shape],
                    seed: Int(user))
            }
            try await bench.rollUp()
            // A tail of other durations, and streams whose first token is a fifth of it.
            try await bench.fill(
                ada, count: 700, from: "2026-11-10", to: "2026-11-23 11:59:00", duration: "100 + r * 5", seed: 9)
            _ = try await bench.write(
                (1...400).map { index in
                    var event = UsageEvent.sample(UInt64(index), by: .user(ada), at: StorageBench.noon)
                    event.durationMilliseconds = Int64(index * index)
                    event.timeToFirstTokenMilliseconds = Int64(index * index / 5 + 1)
                    return event
                })
            for (scope, condition) in [(UsageScope.user(ada), "user_id = \(ada)" as Query), (.allUsers, "true")] {
                try await Self.compare(bench, scope, condition)
            }
        }
    }

    private static func compare(_ bench: StorageBench, _ scope: UsageScope, _ condition: Query) async throws {
        let (summary, series, models) = try await bench.admin.withConnection { connection in
            // A window that cuts days at the day boundary, in a zone whose days cut them again.
            let range = try ReportRange.days("2026-11-02", "2026-11-24", in: "Asia/Kolkata", connection)
            return try ReportSnapshot.take(connection) { snapshot in
                try (
                    UsageSummary.read(scope, range, on: snapshot),
                    UsageSeries.read(scope, range, every: .week, by: .status, hasLatency: true, on: snapshot),
                    UsageBreakdown.read(scope, range, by: .model, hasLatency: true, on: snapshot)
                )
            }
        }
        let rows: Query = """
            (SELECT *, (created_at AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Kolkata' AS local FROM api_logs
             WHERE \(condition) AND created_at >= '2026-11-01 18:30' AND created_at < '2026-11-23 18:30') l
            """
        try await bench.expect(summary.current.latency.duration, "SELECT response_time_ms AS v FROM \(rows)")
        for part in models.groups {
            try await bench.expect(
                part.latency.duration,
                "SELECT response_time_ms AS v FROM \(rows) WHERE model = \(part.key as String?)")
        }
        for line in series.lines {
            for (bucket, latency) in zip(series.buckets, line.latencies) {
                try await bench.expect(
                    latency.duration,
                    """
                    SELECT response_time_ms AS v FROM \(rows)
                    WHERE status = \(line.key as String?) AND created_at AT TIME ZONE 'UTC' >= \(bucket.start)
                      AND created_at AT TIME ZONE 'UTC' < \(bucket.end)
                    """)
            }
        }
        try await bench.expect(
            summary.current.latency.firstToken,
            "SELECT first_token_ms AS v FROM metering.events WHERE first_token_ms IS NOT NULL")
    }
}

extension StorageBench {
    /// Expects the percentiles of the rows `values` of one column `v`, within 2 %.
    fileprivate func expect(_ found: UsageLatency.Percentiles?, _ values: Query) async throws {
        let exact = try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY v)::bigint[] FROM (\(values)) x
                """)[0].decode(0, as: [Int]?.self)
        }
        guard let exact, let found else {
            #expect(exact == nil && found == nil)
            return
        }
        for (found, exact) in zip([found.p50, found.p95, found.p99], exact.map(Double.init)) {
            #expect(abs(found - exact) <= 0.02 * exact, "\(found), should be \(exact)")
        }
    }
}
