import Foundation
import FoundationNetworking
import HTTPSupport
import Postgres
import TestSupport
import Testing

/// Days of zones whose clocks change at midnight, through the program: a call counts and is listed on one day.
@Suite(.timeLimit(.minutes(30))) struct LocalDayTests {
    /// A zone, a day on which its clocks change, the first moments of it and of the next in UTC, and its hours.
    private static let days: [(zone: String, day: String, start: String, end: String, hours: Int)] = [
        ("Atlantic/Azores", "2026-10-25", "2026-10-25T00:00:00", "2026-10-26T01:00:00", 25),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00", "2026-04-05T13:30:00", 25),
        ("America/Havana", "2026-03-08", "2026-03-08T05:00:00", "2026-03-09T04:00:00", 23),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00", "2026-11-02T05:00:00", 25),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00", "2026-03-29T21:00:00", 23),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00", "2026-04-24T21:00:00", 23),
        ("America/Santiago", "2026-09-06", "2026-09-06T04:00:00", "2026-09-07T03:00:00", 23),
        ("America/Asuncion", "2026-10-04", "2026-10-04T03:00:00", "2026-10-05T03:00:00", 24),
        ("America/Scoresbysund", "2026-10-24", "2026-10-24T01:00:00", "2026-10-25T02:00:00", 25),
        ("Antarctica/Troll", "2026-10-25", "2026-10-24T22:00:00", "2026-10-26T00:00:00", 26),
        ("Africa/Casablanca", "2026-02-15", "2026-02-14T23:00:00", "2026-02-16T00:00:00", 25),
    ]

    @Test func aDayBeginsAtItsFirstMidnight() async throws {
        let moments = Self.days.flatMap { [($0.start, -1), ($0.start, 0), ($0.end, -1), ($0.end, 0)] }
        let rows = moments.map { "('\($0.0)'::timestamp + interval '\($0.1) second')" }.joined(separator: ", ")
        let seed: Query = """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  created_at)
            SELECT 1, 'm', 1, 1, 0.5, 1, 'success', m.at
            FROM (SELECT DISTINCT v.at FROM (VALUES \(unsafeSQL: rows)) v (at)) m
            """
        try await LiveAdmin.with(seed: seed) { admin in
            let token = try await admin.token(of: 1)
            func get(_ path: String) async throws -> JSON {
                var request = URLRequest(
                    url: try #require(URL(string: "http://127.0.0.1:\(admin.port)/api/v1/\(path)")))
                request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
                let (body, _) = try await URLSession.shared.data(for: request)
                return try #require(JSON(parsing: Array(body)), "\(path)")
            }
            for (zone, day, start, end, hours) in Self.days {
                let expected = try await admin.database.number(
                    """
                    SELECT count(*) FROM api_logs
                    WHERE created_at >= \(start)::timestamp AND created_at < \(end)::timestamp
                    """)
                let next = try await admin.database.text("SELECT (\(day)::date + 1)::text") ?? ""
                let range = "timezone=\(zone)&from=\(day)&to=\(next)"
                let comment = "\(zone) \(day)"
                let logs = try await get("logs?limit=1000&\(range)")
                #expect(logs["data"]?.elements?.count == expected, "\(comment)")
                let local = try await get("logs?limit=1000&timezone=\(zone)&from=\(day)T00:00&to=\(next)T00:00:00")
                #expect(local["data"]?.elements?.count == expected, "\(comment)")
                let summary = try await get("analytics/summary?\(range)")
                #expect(summary["current"]?["requests"] == .integer(expected), "\(comment)")
                #expect(summary["from"]?.text == "\(start).000Z" && summary["to"]?.text == "\(end).000Z", "\(comment)")
                let series = try await get("analytics/timeseries?granularity=hour&\(range)")
                #expect(series["buckets"]?.elements?.count == hours, "\(comment)")
                let week = try await get(
                    "analytics/timeseries?granularity=day&timezone=\(zone)&from=\(start)Z&to=\(next)")
                #expect(week["buckets"]?.elements?.count == 1, "\(comment)")
                let breakdown = try await get("analytics/breakdown?\(range)")
                #expect(breakdown["total"]?["requests"] == .integer(expected), "\(comment)")
            }
        }
    }
}
