import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Days, weeks, months and hours of any zone are those of a plain query `AT TIME ZONE`, wherever the sums end and the
/// tail begins.
@Suite(.timeLimit(.minutes(30))) struct UsageZoneTests {
    private struct Question: Sendable {
        var zone: String
        var from: String
        var to: String
        var granularity = Granularity.day
    }

    private static let questions = [
        // Over both changes of 2026, and over all of it.
        Question(zone: "America/New_York", from: "2026-03-01", to: "2026-04-01"),
        Question(zone: "America/New_York", from: "2026-10-20", to: "2026-11-25"),
        Question(zone: "America/New_York", from: "2026-02-20", to: "2026-11-25", granularity: .week),
        Question(zone: "America/New_York", from: "2026-02-20", to: "2026-11-25", granularity: .month),
        Question(zone: "America/New_York", from: "2026-03-07", to: "2026-03-10", granularity: .hour),
        Question(zone: "America/New_York", from: "2026-10-31", to: "2026-11-03", granularity: .hour),
        Question(zone: "Pacific/Chatham", from: "2026-03-25", to: "2026-04-20"),
        Question(zone: "Pacific/Chatham", from: "2026-09-15", to: "2026-10-15"),
        Question(zone: "Pacific/Chatham", from: "2026-09-26", to: "2026-09-29", granularity: .hour),
        Question(zone: "Australia/Lord_Howe", from: "2026-04-04", to: "2026-04-07", granularity: .hour),
        // Midnight does not exist on the day of the change.
        Question(zone: "Africa/Cairo", from: "2026-04-20", to: "2026-05-05"),
        Question(zone: "Europe/Istanbul", from: "2026-10-20", to: "2026-11-25"),
        Question(zone: "Asia/Kolkata", from: "2026-10-20", to: "2026-11-25"),
        Question(zone: "Asia/Kolkata", from: "2026-11-22", to: "2026-11-24", granularity: .hour),
        Question(zone: "UTC", from: "2026-10-20", to: "2026-11-25"),
    ]

    @Test func bucketsEqualAPlainQuery() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.fill(user, count: 9_000, from: "2026-02-20", to: "2026-11-23 11:59:00")
            try await bench.fill(
                try await bench.makeUser(), count: 500, from: "2026-02-20", to: "2026-11-23 11:59:00", seed: 2)
            try await Self.compare(bench, user, "tail only")
            // Rows without an event are rolled up every second, days later.
            let clock = bench.clock
            _ = try await RollupPass(pool: bench.worker, now: { clock.now }).run(.laravel)
            try await Self.compare(bench, user, "15-minute rollups only")
            try await bench.rollUp()
            try await Self.compare(bench, user, "days")
            try await bench.fill(user, count: 900, from: "2026-02-20", to: "2026-11-23 11:59:00", seed: 3)
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await Self.compare(bench, user, "days, 15-minute rollups and pending logs")
            for border in ["2026-11-01 05:45", "2026-10-30", "2026-03-08 07:00"] {
                // A border that stands in the middle of the range, as when days are late.
                try await bench.moveDayBoundary(back: border)
                try await Self.compare(bench, user, "border at \(border)")
            }
        }
    }

    private static func compare(_ bench: StorageBench, _ user: Int64, _ state: String) async throws {
        for question in questions {
            let (series, total) = try await bench.admin.withConnection { connection in
                let range = try ReportRange.days(question.from, question.to, in: question.zone, connection)
                return try ReportSnapshot.take(connection) { snapshot in
                    try (
                        UsageSeries.read(.user(user), range, every: question.granularity, on: snapshot),
                        UsageSummary.read(.user(user), range, on: snapshot).current.sums
                    )
                }
            }
            let found = zip(series.buckets, series.lines[0].sums).filter { $1.requests > 0 }.map {
                "\($0.start.microseconds / 1_000_000) \($1.requests) \($1.tokens) \($1.laravelCost)"
            }
            let expected = try await bench.plainSeries(
                of: user, question.zone, question.from, question.to, question.granularity)
            #expect(found.joined(separator: "\n") == expected, "\(question), \(state)")
            #expect(series.lines[0].sums.reduce(UsageTotals(), +) == total, "\(question), \(state)")
        }
    }
}

extension StorageBench {
    /// `begin requests tokens cost` of each bucket with rows, a line each, from Laravel's table.
    fileprivate func plainSeries(
        of user: Int64, _ zone: String, _ from: String, _ to: String, _ granularity: Granularity
    ) async throws -> String? {
        // A bucket of hours ends where the clocks change: the first quarter since with the offset of the row.
        let sinceChange: Query =
            granularity != .hour
            ? "NULL::timestamptz"
            : """
            (SELECT min(q) FROM generate_series(date_trunc('hour', l.created_at AT TIME ZONE 'UTC', \(zone)),
                                                l.created_at AT TIME ZONE 'UTC', '15 minutes') q
             WHERE (q AT TIME ZONE \(zone)) - (q AT TIME ZONE 'UTC')
                   = (l.created_at AT TIME ZONE 'UTC' AT TIME ZONE \(zone)) - l.created_at)
            """
        return try await text(
            """
            SELECT string_agg(concat_ws(' ', extract(epoch FROM start)::bigint, requests, tokens, cost), E'\\n'
                              ORDER BY start)
            FROM (
                SELECT greatest(date_trunc(\(granularity.rawValue), l.created_at AT TIME ZONE 'UTC', \(zone)),
                                \(sinceChange),
                                \(from)::timestamp AT TIME ZONE \(zone)) AS start,
                       count(*) AS requests, sum(l.input_tokens + l.output_tokens) AS tokens,
                       trim_scale(sum(l.total_cost)) AS cost
                FROM api_logs l
                WHERE l.user_id = \(user)
                  AND (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) >= \(from)::timestamp
                  AND (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) < \(to)::timestamp
                GROUP BY 1
            ) x
            """)
    }

    /// Moves the day boundary back to `moment`, and subtracts the usage after it from the day rollups.
    fileprivate func moveDayBoundary(back moment: String) async throws {
        try await execute(
            """
            WITH border AS (
                UPDATE metering.rollup_watermark
                SET day_boundary = metering.quarter_of(\(moment)::timestamp AT TIME ZONE 'UTC')
                RETURNING day_boundary
            ), moved AS (
                SELECT user_id, metering.day_of(quarter) AS day, dimension, sum(requests) AS requests,
                       sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                       sum(duration_ms) AS duration_ms, sum(unpriced) AS unpriced, sum(cost) AS cost,
                       sum(ledger_cost) AS ledger_cost
                FROM metering.rollup_15m, border b, metering.rollup_watermark c
                WHERE quarter >= b.day_boundary AND quarter < c.day_boundary GROUP BY 1, 2, 3
            )
            UPDATE metering.rollup_day d
            SET requests = d.requests - m.requests, input_tokens = d.input_tokens - m.input_tokens,
                output_tokens = d.output_tokens - m.output_tokens, duration_ms = d.duration_ms - m.duration_ms,
                unpriced = d.unpriced - m.unpriced, cost = d.cost - m.cost, ledger_cost = d.ledger_cost - m.ledger_cost
            FROM moved m WHERE m.user_id = d.user_id AND m.day = d.day AND m.dimension = d.dimension
            """)
    }
}
