import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// `/api/v1/analytics/breakdown` page by page.
@Suite(.timeLimit(.minutes(30))) struct BreakdownTests {
    private static let path = "/api/v1/analytics/breakdown"

    /// Gives `body` user 1 with 120 of Laravel's rows and 40 calls with facts, and user 2 with calls of their own.
    private func withCalls(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            try await bench.seedLogs(of: 1)
            let now = bench.clock.now
            let events = (0..<60).map { index in
                let at = now.advanced(by: .seconds(-3600 * index))
                var event = UsageEvent.sample(
                    UInt64(index), by: .user(index < 40 ? 1 : 2), at: at, cost: "0.00\(1 + index % 3)")
                if index % 4 == 0 { (event.status, event.errorCode) = (.error, "\(500 + index % 3)") }
                event.tags = index % 5 == 0 ? [] : ["tag-\(index % 7)", "all"]
                event.endUser = index % 3 == 0 ? nil : "client-\(index % 11)"
                event.modelGroup = "model-\(index % 9)"
                return event
            }
            _ = try await EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
                .write(events.map { IngestItem(.success($0)) }, lockedUsers: .quarantine)
            try await body(bench, try await bench.token(of: 1))
        }
    }

    static let questions = [
        "group_by=model", "group_by=model&order_by=cost", "group_by=provider&order_by=tokens", "group_by=error_code",
        "group_by=tag", "group_by=end_user&order_by=cost", "group_by=status", "group_by=user",
    ]

    @Test(arguments: questions) func pagesHaveEveryGroupOnceAndAddUp(question: String) async throws {
        try await withCalls { bench, token in
            let whole = try #require(try await bench.get("\(Self.path)?\(question)&limit=1000", as: token).json)
            let groups = try #require(whole["data"]?.elements)
            #expect(whole["next_cursor"] == .null && whole["others"] == .null)
            for limit in [1, 2, 5] {
                var (found, cursor): ([JSON], String) = ([], "")
                repeat {
                    let answer = try await bench.get("\(Self.path)?\(question)&limit=\(limit)\(cursor)", as: token)
                    let page = try #require(answer.json, "\(answer)")
                    let parts = try #require(page["data"]?.elements)
                    #expect(page["total"] == whole["total"])
                    found += parts
                    // `others` counts the groups of later pages.
                    let rest = groups.dropFirst(found.count)
                    #expect(page["others"]?["groups"] ?? 0 == .integer(rest.count))
                    let requests = rest.compactMap { $0["requests"]?.wholeNumber }.reduce(0, +)
                    #expect(page["others"]?["requests"] ?? 0 == .integer(requests))
                    cursor = page["next_cursor"]?.text.map { "&cursor=\($0)" } ?? ""
                    // All pages have the range of the first, though time goes on.
                    bench.clock.advance(by: .seconds(1000))
                } while !cursor.isEmpty && found.count <= groups.count
                #expect(found == groups)
                bench.clock.advance(by: .seconds(-1000 * ((groups.count + limit - 1) / limit)))
            }
        }
    }

    /// An event may list a tag twice, or two long tags that are equal once cut. Each counts the event once.
    @Test func aTagListedTwiceCountsItsCallOnce() async throws {
        try await withCalls { bench, token in
            try await bench.execute(
                """
                UPDATE metering.events SET tags = ARRAY['all', tags[1], 'all', tags[1], 'all', NULL, NULL]
                WHERE user_id = 1 AND cardinality(tags) > 0
                """)
            let answer = try await bench.get("\(Self.path)?group_by=tag&limit=100", as: token).json
            let found = Dictionary(
                uniqueKeysWithValues: (answer?["data"]?.elements ?? []).map {
                    ($0["key"]?.text ?? "-", $0["requests"]?.wholeNumber ?? 0)
                })
            #expect(found["all"] == 32 && answer?["total"]?["requests"] == 40)
            let single = try await bench.pool.withConnection { connection in
                try connection.query(
                    """
                    SELECT t, count(*) FROM (
                        SELECT DISTINCT event_key, unnest(tags) AS t FROM metering.events WHERE user_id = 1) u
                    WHERE t IS NOT NULL GROUP BY t
                    """
                ).map { (try $0.decode(0, as: String.self), try $0.decode(1, as: Int64.self)) }
            }
            for (tag, calls) in single { #expect(found[tag] == calls, "\(tag)") }
        }
    }

    @Test func aUserSeesOnlyTheErrorCodesOfTheirOwnCalls() async throws {
        try await withCalls { bench, token in
            let codes = try await bench.get("\(Self.path)?group_by=error_code", as: token).json
            let found = codes?["data"]?.elements?.map {
                "\($0["key"]?.text ?? "-") \($0["requests"]?.wholeNumber ?? 0)"
            }
            let expected = try await bench.pool.withConnection { connection in
                try connection.query(
                    """
                    SELECT coalesce(error_code, '-') || ' ' || count(*) FROM metering.events WHERE user_id = 1
                    GROUP BY error_code ORDER BY count(*) DESC, error_code
                    """
                ).map { try $0.decode(0, as: String.self) }
            }
            #expect(found == expected)
            #expect(codes?["total"]?["requests"] == 40)
            try await bench.makeUser(3, isAdmin: true)
            let ofAllUsers = try await bench.get(
                "\(Self.path)?group_by=error_code", as: try await bench.token(of: 3))
            #expect(ofAllUsers.json?["total"]?["requests"] == 60)
        }
    }

    @Test func aRangeOfTooManyCallsIsRefusedWithAShorterOne() async throws {
        try await withCalls { bench, token in
            let now = bench.clock.now
            _ = try await RollupPass(pool: bench.database.pool(as: .worker), now: { now }).run(progress: { _ in true })
            try await bench.execute("UPDATE metering.rollup_15m SET requests = requests * 100000 WHERE user_id = 0")
            try await bench.execute("UPDATE metering.rollup_day SET requests = requests * 100000 WHERE user_id = 0")
            // A user must not learn how many calls others made.
            let single = try await bench.get("\(Self.path)?group_by=tag", as: token)
            #expect(single.status == 400 && single.body.contains("Ask for a single day"), "\(single)")
            try await bench.makeUser(3, isAdmin: true)
            let token = try await bench.token(of: 3)
            let refused = try await bench.get("\(Self.path)?group_by=tag", as: token)
            #expect(refused.status == 400 && refused.json?["code"] == "invalid", "\(refused)")
            let days = try #require(refused.body.firstMatch(of: /Ask for the last (\d+) days/).flatMap { Int($0.1) })
            let from = now.advanced(by: .seconds(-86_400 * days + 900)).rfc3339
            let less = try await bench.get("\(Self.path)?group_by=tag&from=\(from)&to=\(now.rfc3339)", as: token)
            #expect(less.status == 200, "\(less)")
            #expect(try await bench.get("\(Self.path)?group_by=model", as: token).status == 200)
        }
    }

    @Test(arguments: ["text/csv", "application/x-ndjson"]) func tablesNameTheirNextPage(type: String) async throws {
        try await withCalls { bench, token in
            var (uri, keys): (String?, [String]) = ("\(Self.path)?group_by=tag&limit=3", [])
            while let path = uri {
                let page = try await bench.send(.get, path, as: token, headers: [.accept: type])
                #expect(page.headers[.vary] == "Accept, Accept-Encoding")
                let lines = page.body.split(whereSeparator: \.isNewline).dropFirst(type == "text/csv" ? 1 : 0)
                uri = page.headers[.link]?.firstMatch(of: /^<(.+)>; rel="next"$/).map { String($0.1) }
                // Every page except the last has one more row, for the other groups.
                keys += lines.dropLast(uri == nil ? 0 : 1).map { line in
                    type == "text/csv"
                        ? String(line.prefix { $0 != "," }) : JSON(parsing: Array(line.utf8))?["key"]?.text ?? ""
                }
            }
            #expect(keys.first == "all" && keys.count == 9 && Set(keys).count == 9, "\(keys)")
        }
    }

    @Test func aCursorIsOnlyGoodForItsQuestion() async throws {
        try await withCalls { bench, token in
            let page = try await bench.get("\(Self.path)?group_by=model&limit=1&from=2026-11-01", as: token)
            let cursor = try #require(page.json?["next_cursor"]?.text)
            for query in [
                "group_by=tag", "group_by=model&order_by=cost", "group_by=model&from=2026-11-02",
                "group_by=model&to=2026-11-20",
            ] {
                let answer = try await bench.get("\(Self.path)?\(query)&cursor=\(cursor)", as: token)
                #expect(answer.status == 400, "\(query): \(answer)")
            }
            for cursor in ["x", Cursor.encode(["model requests", "x", "y", "1", ""])] {
                #expect(
                    try await bench.get("\(Self.path)?group_by=model&cursor=\(cursor)", as: token).status == 400)
            }
        }
    }
}
