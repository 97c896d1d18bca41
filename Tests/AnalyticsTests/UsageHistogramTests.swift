import Postgres
import Storage
import TestSupport
import Testing

/// Buckets of durations (`migrations/0007_usage.sql`).
@Suite(.timeLimit(.minutes(30))) struct UsageHistogramTests {
    @Test func theMiddleOfABucketIsWithinTwoPercentOfAllItHolds() async throws {
        try await withTestDatabase { database in
            let worst = try await database.text(
                """
                SELECT max(abs(metering.bucket_middle(metering.bucket_of(v)) / v - 1))
                FROM (SELECT g::bigint AS v FROM generate_series(1, 200000) g
                      UNION ALL SELECT floor(1.013 ^ g)::bigint FROM generate_series(1, 3300) g
                      UNION ALL SELECT 9223372036854775807) x
                """)
            #expect(Double(worst ?? "1") ?? 1 <= 0.02)
            #expect(try await database.number("SELECT metering.bucket_of(9223372036854775807)") < 2000)
            #expect(
                try await database.text(
                    "SELECT concat_ws(' ', metering.bucket_of(0), metering.bucket_of(-5), metering.bucket_of(1))")
                    == "0 0 1")
            #expect(try await database.text("SELECT metering.bucket_of(NULL)") == nil)
        }
    }

    @Test func mergingAddsCounts() async throws {
        try await withTestDatabase { database in
            let merged = try await database.text(
                "SELECT metering.merged(ARRAY[(7::bigint << 40) + 2, (3::bigint << 40) + 1, (7::bigint << 40) + 5])")
            #expect(merged == "{\((3 << 40) + 1),\((7 << 40) + 7)}")
        }
    }

    @Test func percentilesOfHardData() async throws {
        try await withTestDatabase { database in
            let shapes = [
                "exp(random() * 12)", "CASE WHEN random() < 0.5 THEN 40 ELSE 90000 END", "1250", "random() * 3",
            ]
            for shape in shapes {
                let worst = try await database.text(
                    """
                    WITH v AS MATERIALIZED (SELECT (\(unsafeSQL: shape))::bigint AS v FROM generate_series(1, 20000)),
                    exact AS (SELECT p, percentile_disc(p) WITHIN GROUP (ORDER BY v) AS v
                              FROM v, unnest(ARRAY[0.5, 0.95, 0.99]) p GROUP BY p),
                    bag AS (SELECT metering.bucket_of(v) AS bucket, count(*) AS n FROM v GROUP BY 1),
                    rank AS (SELECT bucket, sum(n) OVER (ORDER BY bucket) AS upto, sum(n) OVER () AS total FROM bag)
                    SELECT max(abs(metering.bucket_middle((SELECT min(bucket) FROM rank WHERE upto >= p * total)) - e.v)
                               / greatest(e.v, 1))
                    FROM exact e
                    """)
                #expect(Double(worst ?? "1") ?? 1 <= 0.02, "\(shape)")
            }
        }
    }
}
