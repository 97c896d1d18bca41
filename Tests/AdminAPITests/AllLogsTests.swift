import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The logs of all users, as an administrator lists them.
@Suite(.timeLimit(.minutes(30))) struct AllLogsTests {
    /// Gives `body` the token of an administrator and two users with rows. Some rows have no time, an infinite cost or
    /// an absurd time.
    private func withLogs(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            try await bench.makeUser(3, isAdmin: true)
            try await bench.seedLogs(of: 1)
            try await bench.seedLogs(of: 2, count: 60)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      created_at)
                VALUES (1, 'gpt-4', 1, 1, 'NaN', 7, '2026-11-02 10:00'),
                       (2, 'gpt-4', 1, 1, 9000, 8, '2026-11-02 10:00'),
                       (2, 'gpt-4', 1, 1, 1, 9, NULL), (1, 'gpt-4', 1, 1, 1, 9, NULL),
                       (1, 'gpt-4', 1, 1, 1, 9, 'infinity'), (2, 'gpt-4', 1, 1, 1, 9, '-infinity'),
                       (2, 'gpt-4', 1, 1, 1, 9, '294276-12-31 23:59:59')
                """)
            try await body(bench, try await bench.token(of: 3))
        }
    }

    private func ids(_ page: AdminBench.Answer) -> [Int] {
        (page.json?["data"]?.elements ?? []).compactMap { $0["id"].flatMap { Int($0.wholeNumber ?? 0) } }
    }

    /// The ids of all pages.
    private func walk(
        _ bench: AdminBench, _ query: String, as token: String, between: (Int) async throws -> Void = { _ in }
    ) async throws -> [Int] {
        var found: [Int] = []
        var (cursor, pages) = ("", 0)
        repeat {
            let page = try await bench.get("/api/v1/logs?limit=7&\(query)\(cursor)", as: token)
            #expect(page.status == 200, "\(page)")
            found += ids(page)
            cursor = page.json?["next_cursor"]?.text.map { "&cursor=\($0)" } ?? ""
            pages += 1
            try await between(pages)
        } while !cursor.isEmpty && found.count < 1000
        return found
    }

    private static let latest: Query = "created_at DESC, id DESC"
    private static let dearest: Query = "nullif(total_cost, 'NaN') DESC NULLS LAST, id DESC"

    @Test(
        arguments: [
            ("sort=time", "true", latest), ("from=2026-11-01", "created_at >= '2026-11-01'", latest),
            ("to=2026-11-02T10:00:01Z", "created_at < '2026-11-02 10:00:01'", latest),
            (
                "from=2026-11-01&to=2026-11-20&timezone=Asia/Kolkata&status=error",
                "created_at >= '2026-10-31 18:30' AND created_at < '2026-11-19 18:30' AND status = 'error'", latest
            ),
            ("search=BOOM", "error_message LIKE 'boom%'", latest), ("user_id=2", "user_id = 2", latest),
            ("from=2026-11-01&sort=cost", "created_at >= '2026-11-01'", dearest),
            (
                "from=2026-11-01&sort=cost&min_cost=0.1",
                "created_at >= '2026-11-01' AND total_cost BETWEEN 0.1 AND 9999", dearest
            ),
            (
                "from=2026-11-01&to=2026-12-01&sort=duration",
                "created_at >= '2026-11-01' AND created_at < '2026-12-01'",
                "response_time_ms DESC, id DESC"
            ),
        ] as [(String, String, Query)])
    func pagesHaveEveryRowOnceInOrder(query: String, condition: String, order: Query) async throws {
        try await withLogs { bench, token in
            let expected = try await bench.pool.withConnection { connection in
                try connection.query("SELECT id FROM api_logs WHERE \(unsafeSQL: condition) ORDER BY \(order)")
                    .map { try $0.decode(0, as: Int.self) }
            }
            #expect(try await walk(bench, query, as: token) == expected)
            guard !query.contains("sort=cost"), !query.contains("sort=duration") else { return }
            for type in ["text/csv", "application/x-ndjson"] {
                let path = "/api/v1/logs?\(query.replacing("sort=time", with: ""))"
                let export = try await bench.send(.get, path, as: token, headers: [.accept: type])
                let lines = export.body.split(whereSeparator: \.isNewline).dropLast()
                let found = lines.compactMap { line in
                    type == "text/csv"
                        ? line.split(separator: ",").first.flatMap { Int($0) }
                        : JSON(parsing: Array(line.utf8))?["id"]?.wholeNumber.map { Int($0) }
                }
                #expect(found == expected, "\(type)")
            }
        }
    }

    /// Pages and exports have every row once, whatever times another writer set.
    @Test(
        arguments: [
            ["infinity"], ["-infinity"], ["infinity", "-infinity"], ["294276-12-31 23:59:59"],
            ["4714-11-24 00:00:00 BC"],
            ["294276-12-31 23:59:59", "4714-11-24 00:00:00 BC"], ["infinity", "4714-11-24 00:00:00 BC", "-infinity"],
            ["4713-01-01 BC", "0001-01-01", "1969-12-31 23:59:59", "9999-12-31 23:59:59", "10000-01-01", "infinity"],
        ])
    func timesBeyondACalendarAreListed(times: [String]) async throws {
        try await AdminBench.with { bench in
            for user in 1...4 as ClosedRange<Int64> { try await bench.makeUser(user, isAdmin: user == 3) }
            let token = try await bench.token(of: 3)
            for others in ["false", "h.id = 1 AND m IS NULL", "h.id = 1 AND (m IS NULL OR m = '2026-11-20 10:00')"] {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          created_at)
                    SELECT h.id, 'gpt-4', 1, 1, 1, 9, m FROM users h, generate_series(1, 4),
                         unnest(\(times)::timestamp[] || '{2026-11-20 10:00,NULL}'::timestamp[]) m
                    WHERE h.id IN (1, 2) AND (m = ANY(\(times)::timestamp[]) OR \(unsafeSQL: others))
                    """)
                for (query, condition) in [
                    ("sort=time", "true"), ("from=2026-11-01", "created_at >= '2026-11-01'"),
                    ("to=2026-11-01", "created_at < '2026-11-01'"),
                    ("from=0001-01-01&to=9999-12-31", "created_at >= '0001-01-01' AND created_at < '9999-12-31'"),
                ] {
                    let expected = try await bench.pool.withConnection { connection in
                        try connection.query(
                            "SELECT id FROM api_logs WHERE \(unsafeSQL: condition) ORDER BY \(Self.latest)"
                        ).map { try $0.decode(0, as: Int.self) }
                    }
                    #expect(try await walk(bench, query, as: token) == expected, "\(query) \(others)")
                    let path = "/api/v1/logs?\(query.replacing("sort=time", with: ""))"
                    let export = try await bench.send(.get, path, as: token, headers: [.accept: "application/x-ndjson"])
                    let found = export.body.split(whereSeparator: \.isNewline).compactMap { line in
                        JSON(parsing: Array(line.utf8))?["id"]?.wholeNumber.flatMap { Int($0) }
                    }
                    #expect(export.status == 200 && found == expected, "\(query) \(others): \(export)")
                }
                for size in [1, 7, 100] {
                    let page = try await bench.get("/api/v1/logs?user_id=2&limit=\(size)", as: token)
                    #expect(page.status == 200, "\(page)")
                }
            }
        }
    }

    @Test func aRangeThatIsOpenOrTooLongIsNotSorted() async throws {
        try await withLogs { bench, token in
            for query in ["", "&from=2024-01-01", "&to=2026-11-01", "&from=2024-01-01&to=2026-01-01"] {
                for order in ["cost", "duration"] {
                    let answer = try await bench.get("/api/v1/logs?sort=\(order)\(query)", as: token)
                    #expect(answer.status == 400 && answer.body.contains("366 days"), "\(answer)")
                }
            }
            // The rows of one user are few enough to sort.
            #expect(try await bench.get("/api/v1/logs?sort=cost&user_id=1", as: token).status == 200)
        }
    }

    /// A row that is there from the first page to the last is on exactly one page, whatever is written meanwhile.
    @Test(arguments: ["sort=time", "from=2026-10-01", "from=2026-10-01&sort=cost", "from=2026-10-01&sort=duration"])
    func aWalkKeepsItsPlaceWhileRowsCome(query: String) async throws {
        try await withLogs { bench, token in
            let range: Query = query == "sort=time" ? "true" : "created_at >= '2026-10-01'"
            let before = try await bench.pool.withConnection { connection in
                Set(
                    try connection.query("SELECT id FROM api_logs WHERE \(range)").map {
                        try $0.decode(0, as: Int.self)
                    })
            }
            let found = try await walk(bench, query, as: token) { page in
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          created_at)
                    SELECT 1 + g % 2, 'new', 1, 1, g, 1000 + g * 7,
                           CASE WHEN g > 1
                               THEN '2026-11-22 05:04:09'::timestamp - g * \(page) * interval '7 hours' END
                    FROM generate_series(1, 4) g
                    """)
            }
            #expect(Set(found).count == found.count)
            #expect(before.subtracting(found) == [])
        }
    }

    @Test func aUserSeesTheirOwnOnly() async throws {
        try await withLogs { bench, _ in
            let token = try await bench.token(of: 1)
            let count = try await bench.number(
                "SELECT count(*) FROM api_logs WHERE user_id = 1 AND created_at >= '2026-11-01'")
            #expect(try await walk(bench, "from=2026-11-01", as: token).count == count)
            #expect(try await bench.get("/api/v1/logs?user_id=2&from=2026-11-01", as: token).status == 403)
        }
    }

    @Test func aFilterThatFindsNothingInTimeSaysWhatToDo() async throws {
        try await AdminBench.with(["ADMIN_STATEMENT_TIMEOUT": "150ms"]) { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      error_message, created_at)
                SELECT 1, 'gpt-4', 1, 1, 0, 1, repeat('x ', 400), '2026-01-01'::timestamp + g * interval '1 minute'
                FROM generate_series(1, 60000) g
                """)
            let answer = try await bench.get("/api/v1/logs?search=rare", as: try await bench.token(of: 1))
            #expect(answer.status == 504 && answer.body.contains("Ask for less"), "\(answer)")
        }
    }
}
