import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Another writer leaves rows whose values are no numbers or no times, and columns of other types. Every route still
/// answers with valid JSON.
@Suite(.timeLimit(.minutes(30))) struct BadValueTests {
    static let changes: [(String, [String])] = [
        ("ALTER total_cost TYPE numeric(10, 6)", ["NaN"]),
        ("ALTER total_cost TYPE numeric", ["NaN", "Infinity", "-Infinity", "1e300", "0.1234567890123456"]),
        ("ALTER total_cost TYPE double precision", ["NaN", "Infinity", "-Infinity", "1e300", "0.1", "1e-7"]),
        ("ALTER total_cost TYPE real", ["NaN", "Infinity", "-Infinity", "1e30", "0.1"]),
        (
            "ALTER input_tokens TYPE bigint, ALTER output_tokens TYPE bigint, ALTER response_time_ms TYPE bigint",
            ["NaN", "1"]
        ),
        (
            """
            ALTER total_cost DROP NOT NULL, ALTER model DROP NOT NULL, ALTER status DROP NOT NULL,
            ALTER input_tokens DROP NOT NULL, ALTER output_tokens DROP NOT NULL, ALTER response_time_ms DROP NOT NULL
            """, ["NaN", "1"]
        ),
    ]

    private func seed(_ bench: AdminBench, _ change: String, _ costs: [String]) async throws {
        try await bench.execute("ALTER TABLE api_logs \(unsafeSQL: change)")
        try await bench.execute(
            """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  created_at, updated_at)
            SELECT 1, 'bad', t, t, c.cost, t, 'success', m, m
            FROM unnest(ARRAY[\(unsafeSQL: costs.map { "'\($0)'" }.joined(separator: ", "))]::numeric[]) AS c (cost),
                 unnest('{2147483647,-2147483648,-1,0}'::integer[]) AS t,
                 unnest(ARRAY['infinity', '-infinity', '294276-12-31', '4713-01-01 BC', NULL, '9999-12-31',
                              '2300-01-01', '1969-12-31', '2026-11-23 08:00:00',
                              '2026-10-24 08:10:00']::timestamp[]) AS m
            """)
        if change.contains("bigint") {
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      created_at)
                SELECT 1, 'bad', t, t, 1, t, 'success', '2026-11-23 08:00:00'
                FROM unnest(ARRAY['9223372036854775807', '-9223372036854775808', '-9223372036854775808',
                                  '9223372036854775807']::bigint[]) t
                """)
        }
        if change.contains("DROP NOT NULL") {
            try await bench.execute("INSERT INTO api_logs (user_id, created_at) VALUES (1, '2026-11-23 08:00:00')")
        }
    }

    private func routes(_ bench: AdminBench) -> [String] {
        bench.routes.filter { $0.method == .get }.map(\.path)
    }

    private static let questions = [
        "", "?user_id=1", "?user_id=1&limit=7", "?group_by=user&order_by=cost", "?group_by=model&order_by=tokens",
        "?from=1970-01-01&to=2030-01-01&granularity=month",
        "?from=1970-01-01&to=1970-01-03", "?compare=year", "?per_page=10&page=3",
        "?from=2026-11-01&to=2026-12-01&user_id=1",
    ]
    private static let questionsOfLogs = [
        "?user_id=1&sort=cost", "?user_id=1&sort=duration&min_cost=0.01", "?sort=cost&from=2026-01-01&to=2026-12-01",
        "?user_id=1&model=bad&status=success&min_duration=1", "?model=unknown&status=error&min_cost=1e300",
        "?user_id=1&provider=openai&flag=implausible_cost&search=NaN", "?min_cost=-1&min_duration=0",
    ]

    @Test(arguments: changes.indices) func everyRouteAnswers(_ index: Int) async throws {
        let (change, costs) = Self.changes[index]
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(3, isAdmin: true)
            try await bench.makeUser(2)
            try await bench.seedLogs(of: 2, count: 20)
            let (user, admin) = (try await bench.token(of: 1), try await bench.token(of: 3))
            let other = try await bench.token(of: 2)
            let path = "/api/v1/analytics/summary"
            let before = try #require(try await bench.get(path, as: other).json?["current"])
            try await seed(bench, change, costs)
            // Laravel's own checks, which a migration of its may drop.
            try await bench.execute("ALTER TABLE rate_limits DROP CONSTRAINT rate_limits_period_check")
            try await bench.execute("ALTER TABLE users DROP CONSTRAINT users_plan_check")
            try await bench.execute(
                """
                INSERT INTO rate_limits (user_id, period, limit_tokens, used_tokens, limit_requests, used_requests,
                                         reset_at)
                VALUES (1, 'daily', -1, 2147483647, -2147483648, -5, 'infinity'), (1, 'x', 0, 0, 0, 0, '-infinity')
                """)
            try await bench.execute(
                "UPDATE users SET plan = 'NaN', created_at = 'infinity', updated_at = '-infinity' WHERE id = 1")
            let logs = try await bench.number("SELECT count(*) FROM api_logs")
            let ids = try await bench.number("SELECT min(id) FROM api_logs WHERE model = 'bad'")
            for state in ["tail", "rolled up"] {
                if state == "rolled up" {
                    let clock = bench.clock
                    _ = try await RollupPass(pool: bench.database.pool(as: .worker), now: { clock.now }).run()
                }
                for route in routes(bench) {
                    let questions = Self.questions + (route.hasSuffix("/logs") ? Self.questionsOfLogs : [])
                    for (question, token) in questions.flatMap({ [($0, user), ($0, admin)] }) {
                        for accept in ["application/json", "text/csv", "application/x-ndjson"] {
                            let answer = try await bench.send(
                                .get, route.replacing("{id}", with: "\(ids)") + question, as: token,
                                headers: [.accept: accept])
                            #expect(answer.status < 500, "\(state) \(route)\(question) \(accept): \(answer)")
                            let isClean = !answer.body.contains(/\b(?:nan|NaN|-?[Ii]nfinity|inf)\b/)
                            #expect(
                                isClean || route.hasPrefix("/api/v1/admin/users")
                                    || answer.body.contains("\"plan\":\"NaN\"")
                                    || route == "/openapi.json", "\(state) \(route)\(question): \(answer)")
                        }
                    }
                }
                for id in ids..<(ids + logs - 20) {
                    let answer = try await bench.get("/api/v1/logs/\(id)", as: admin)
                    #expect(answer.status == 200, "\(answer)")
                    let isPriced = answer.json?["cost"] != .null
                    let isFlagged = answer.json?["flags"]?.elements?.contains("implausible_cost") == true
                    #expect(isPriced != isFlagged, "\(answer)")
                }
                #expect(try await bench.get(path, as: other).json?["current"] == before, "\(state)")
                let laravels = try await bench.get("/api/usage/logs?per_page=100", as: user)
                let costs = laravels.json?["data"]?.elements ?? laravels.json?["logs"]?["data"]?.elements ?? []
                #expect(!costs.isEmpty, "\(laravels)")
                #expect(
                    costs.allSatisfy { $0["total_cost"]?.text?.wholeMatch(of: /-?[0-9]+\.[0-9]{6}/) != nil },
                    "\(laravels)")
            }
            let report = try await bench.database.pool(as: .worker).withConnection {
                try RollupVerification.verify(RollupRange(), $0)
            }
            #expect(report.findings == [])
        }
    }

    /// Pages in each order have every row once, whatever the columns hold. A filter compares the values that the answer
    /// shows.
    @Test(arguments: changes.indices) func everyRowIsOnOnePage(_ index: Int) async throws {
        let (change, costs) = Self.changes[index]
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(3, isAdmin: true)
            try await seed(bench, change, costs)
            let (user, admin) = (try await bench.token(of: 1), try await bench.token(of: 3))
            let range = "created_at >= '2026-01-01' AND created_at < '2026-12-01'"
            for (question, condition) in [
                ("user_id=1", "true"), ("user_id=1&sort=cost", "true"), ("user_id=1&sort=duration", "true"),
                ("sort=time", "true"), ("model=bad&user_id=1", "model = 'bad'"), ("model=bad", "model = 'bad'"),
                ("model=unknown", "coalesce(model, 'unknown') = 'unknown'"),
                ("model=unknown&model=bad&user_id=1", "true"),
                ("sort=cost&from=2026-01-01&to=2026-12-01", range),
                ("sort=duration&from=2026-01-01&to=2026-12-01", range),
            ] {
                let expected = try await bench.pool.withConnection { connection in
                    try connection.query("SELECT id FROM api_logs WHERE \(unsafeSQL: condition) ORDER BY id")
                        .map { try $0.decode(0, as: Int64.self) }
                }
                var (found, cursor) = ([] as [Int64], "" as String?)
                while let place = cursor {
                    let page = try await bench.get("/api/v1/logs?limit=37&\(question)\(place)", as: admin)
                    try #require(page.status == 200, "\(question): \(page)")
                    found += (page.json?["data"]?.elements ?? []).compactMap {
                        $0["id"]?.wholeNumber.flatMap { Int64($0) }
                    }
                    cursor = page.json?["next_cursor"]?.text.map { "&cursor=\($0)" }
                }
                #expect(found.sorted() == expected, "\(question)")
            }
            let total = try await bench.number("SELECT count(*) FROM api_logs WHERE model = 'bad'")
            let page = try await bench.get("/api/usage/logs?model=bad&per_page=10&page=2", as: user)
            let found = page.json?["total"] ?? page.json?["logs"]?["total"]
            #expect(found?.wholeNumber.flatMap { Int($0) } == total, "\(page)")
        }
    }

    /// An amount has as many decimals as it needs, and milliseconds have two at most.
    @Test func moneyAndMillisecondsHaveOneForm() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.seedLogs(of: 1)
            let now = bench.clock.now
            _ = try await EventWriter(pool: bench.database.pool(as: .webhook), now: { now }).write(
                ["0", "0.42", "0.0235420000001", "12", "0.000000000001"].enumerated().map {
                    IngestItem(.success(.sample(UInt64($0), by: .user(1), at: now, cost: $1)))
                }, lockedUsers: .quarantine)
            let token = try await bench.token(of: 1)
            for path in [
                "logs", "logs?order_by=cost&user_id=1", "analytics/summary", "analytics/breakdown",
                "analytics/breakdown?group_by=tag", "analytics/timeseries?granularity=day", "me",
            ] {
                for accept in ["application/json", "text/csv", "application/x-ndjson"] {
                    let answer = try await bench.send(.get, "/api/v1/\(path)", as: token, headers: [.accept: accept])
                    for match in answer.body.matches(of: /cost"?[:=]"?([0-9.]+)/) {
                        #expect(
                            match.1.wholeMatch(of: /(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?/) != nil,
                            "\(path) \(accept): \(match.0)")
                    }
                    for match in answer.body.matches(of: /"(?:p50|p95|p99|average_duration_ms)":([0-9.]+)/) {
                        #expect(match.1.wholeMatch(of: /[0-9]+(?:\.[0-9]{1,2})?/) != nil, "\(path): \(match.0)")
                    }
                    #expect(!answer.body.contains(/[0-9]\.[0-9]*00\b/), "\(path) \(accept)")
                }
            }
        }
    }
}
