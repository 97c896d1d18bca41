import Crypto
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Logs page by page and all at once.
@Suite(.timeLimit(.minutes(30))) struct LogTests {
    /// Gives `body` a user with 120 of Laravel's rows, an event with exact facts, and rows that share a second.
    private func withLogs(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            try await bench.seedLogs(of: 1)
            try await bench.seedLogs(of: 2, count: 30)
            let token = try await bench.token(of: 1)
            for cost in ["0.000000000001", "2.5"] {
                _ = try await bench.send(
                    .post, "/api/usage/log",
                    """
                    {"user_id":1,"model":"=cmd()","input_tokens":1,"output_tokens":1,"total_cost":\(cost),\
                    "response_time_ms":5,"status":"success"}
                    """, as: token)
            }
            try await body(bench, token)
        }
    }

    /// The ids of all pages.
    private func walk(_ bench: AdminBench, _ query: String, as token: String) async throws -> [Int] {
        var ids: [Int] = []
        var cursor = ""
        repeat {
            let page = try await bench.get("/api/v1/logs?limit=7&\(query)\(cursor)", as: token)
            #expect(page.status == 200, "\(page)")
            ids += (page.json?["data"]?.elements ?? []).compactMap { $0["id"].flatMap { Int($0.wholeNumber ?? 0) } }
            cursor = page.json?["next_cursor"]?.text.map { "&cursor=\($0)" } ?? ""
        } while !cursor.isEmpty && ids.count < 1000
        return ids
    }

    @Test(arguments: [
        ("sort=time", "true", "created_at DESC, id DESC"), ("sort=cost", "true", "total_cost DESC, id DESC"),
        ("sort=duration", "true", "response_time_ms DESC, id DESC"),
        (
            "model=gpt-4&model=%3Dcmd()&status=success", "model IN ('gpt-4', '=cmd()') AND status = 'success'",
            "created_at DESC, id DESC"
        ),
        ("search=BOOM", "error_message LIKE 'boom%'", "created_at DESC, id DESC"),
        (
            "min_cost=0.15&min_duration=1105", "total_cost >= 0.15 AND response_time_ms >= 1105",
            "created_at DESC, id DESC"
        ),
        (
            "from=2026-11-01&to=2026-11-10T12:00:00Z", "created_at >= '2026-11-01' AND created_at < '2026-11-10 12:00'",
            "created_at DESC, id DESC"
        ),
        ("from=2026-11-01&timezone=Asia/Kolkata", "created_at >= '2026-10-31 18:30'", "created_at DESC, id DESC"),
        ("provider=openai", "false", "id"), ("flag=attributed_by_id", "false", "id"),
        ("flag=self_reported&flag=attributed_by_id", "model = '=cmd()'", "created_at DESC, id DESC"),
    ])
    func pagesHaveEveryRowOnceInOrder(query: String, condition: String, order: String) async throws {
        try await withLogs { bench, token in
            let ids = try await bench.pool.withConnection { connection in
                try connection.query(
                    Query(unsafeSQL: "SELECT id FROM api_logs WHERE user_id = 1 AND \(condition) ORDER BY \(order)")
                ).map { try $0.decode(0, as: Int.self) }
            }
            #expect(try await walk(bench, query, as: token) == ids)
        }
    }

    @Test func aCursorIsOnlyGoodForItsOrder() async throws {
        try await withLogs { bench, token in
            let page = try await bench.get("/api/v1/logs?limit=5&sort=cost", as: token)
            let cursor = try #require(page.json?["next_cursor"]?.text)
            for query in ["sort=time&cursor=\(cursor)", "cursor=x", "cursor=\(Cursor.encode(["time", "x", "1"]))"] {
                #expect(try await bench.get("/api/v1/logs?\(query)", as: token).status == 400, "\(query)")
            }
        }
    }

    @Test func aCallHasItsExactFacts() async throws {
        try await withLogs { bench, token in
            let page = try await bench.get("/api/v1/logs?limit=2", as: token)
            let rows = page.json?["data"]?.elements ?? []
            #expect(rows.map { $0["cost"] } == ["2.5", "0.000000000001"])
            #expect(rows.map { $0["ledger_cost"] } == ["2.5", "0"])
            let id = try #require(rows.first?["id"]?.wholeNumber)
            #expect(try await bench.get("/api/v1/logs/\(id)", as: token).json == rows.first)
            #expect(try await bench.get("/api/v1/logs/999999", as: token).status == 404)
        }
    }

    @Test(arguments: ["text/csv", "application/x-ndjson"]) func anExportCanBeChecked(type: String) async throws {
        try await withLogs { bench, token in
            let answer = try await bench.send(.get, "/api/v1/logs?status=success", as: token, headers: [.accept: type])
            #expect(answer.status == 200)
            let lines = answer.body.split(whereSeparator: \.isNewline).map(String.init)
            let last = try #require(lines.last)
            let body = answer.body.dropLast(last.count + 1)
            let hash = SHA256.hash(data: Data(body.utf8)).lowercaseHex
            let sums = try await bench.text(
                """
                SELECT concat_ws('|', count(*), trim_scale(sum(coalesce(e.cost, l.total_cost))),
                    trim_scale(sum(l.total_cost)))
                FROM api_logs l LEFT JOIN metering.events e ON e.api_log_id = l.id
                WHERE l.user_id = 1 AND l.status = 'success'
                """)
            let parts = try #require(sums).split(separator: "|")
            if type == "text/csv" {
                #expect(last == "#rows=\(parts[0]),cost=\(parts[1]),ledger_cost=\(parts[2]),sha256=\(hash)")
                try #require(lines.count == (Int(parts[0]) ?? 0) + 2)
                #expect(lines[1].contains(#","'=cmd()","#))
            } else {
                let total = JSON(parsing: Array(last.utf8))?["total"]
                #expect(total?["sha256"]?.text == hash)
                #expect(total?["cost"]?.text == String(parts[1]))
                #expect(total?["rows"]?.wholeNumber.map(String.init) == String(parts[0]))
            }
        }
    }

    @Test func laravelsExportIsQuotedAndHarmless() async throws {
        try await withLogs { bench, token in
            // A negative cost at an infinite time.
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      created_at)
                VALUES (1, 'gpt-4', 1, 1, -0.5, 5, 'infinity')
                """)
            let answer = try await bench.get("/api/usage/export", as: token)
            #expect(answer.headers[.contentType] == "text/csv; charset=utf-8")
            #expect(answer.headers[.contentDisposition] == #"attachment; filename="usage_export.csv""#)
            let lines = answer.body.split(whereSeparator: \.isNewline).map(String.init)
            try #require(lines.count == 124)
            #expect(lines[1] == ",gpt-4,1,1,-0.500000,5,success")
            #expect(lines[0] == "Date,Model,Input Tokens,Output Tokens,Total Cost,Response Time,Status")
            #expect(lines[2] == #"2026-11-23 08:04:09,"'=cmd()",1,1,2.500000,5,success"#)
            #expect(lines.contains(#"2026-11-22 14:04:09,"gemini, pro",102,52,0.003000,1002,success"#))
            #expect(lines.contains(#"2026-11-22 05:04:09,"say ""hi""",103,53,0.004500,1003,success"#))
        }
    }

    @Test func analyticsAgreeWithTheRowsInEveryFormat() async throws {
        try await withLogs { bench, token in
            let range = "from=2026-11-01&to=2026-11-24"
            let summary = try await bench.get("/api/v1/analytics/summary?\(range)&compare=previous", as: token).json
            let count = try await bench.number(
                """
                SELECT count(*) FROM api_logs
                WHERE user_id = 1 AND created_at >= '2026-11-01' AND created_at < '2026-11-24'
                """)
            #expect(summary?["current"]?["requests"] == .integer(count))
            #expect(summary?["compared"]?["requests"] != nil)
            #expect(summary?["meta"]?["quarantined"] == 0)
            let series = try await bench.get(
                "/api/v1/analytics/timeseries?\(range)&granularity=day&group_by=model", as: token
            ).json
            #expect(series?["buckets"]?.elements?.count == 23)
            let values = (series?["series"]?.elements ?? []).flatMap { $0["values"]?.elements ?? [] }
            #expect(values.compactMap { $0["requests"]?.wholeNumber }.reduce(0, +) == Int64(count))
            let year = try await bench.get("/api/v1/analytics/summary?\(range)&compare=year", as: token).json
            #expect(year?["compared"]?["requests"] == 0)
            for (type, lines) in [("text/csv", 6), ("application/x-ndjson", 5)] {
                let table = try await bench.send(
                    .get, "/api/v1/analytics/breakdown?\(range)&group_by=model", as: token, headers: [.accept: type])
                #expect(table.body.split(whereSeparator: \.isNewline).count == lines, "\(table)")
            }
            let fine = try await bench.get(
                "/api/v1/analytics/timeseries?from=2020-01-01&to=2026-11-24&granularity=hour", as: token)
            #expect(fine.status == 400 && fine.body.contains("Ask for "))
        }
    }
}
