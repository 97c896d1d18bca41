import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTP1
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// `/api/v1/stream` as a browser reads it: a process, sockets, and other writers of the database.
@Suite(.timeLimit(.minutes(30))) struct StreamTests {
    private static func bearer(_ token: String) -> [(String, String)] { [("Authorization", "Bearer \(token)")] }

    /// Gives `body` a running service with the users 1, 2 and an administrator.
    private func withAdmin(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (LiveAdmin) async throws -> Void
    ) async throws {
        try await LiveAdmin.with(environment, seed: "SELECT 1", body)
    }

    /// A row as Laravel writes it.
    private static func row(of user: Int64, _ model: String = "gpt-4") -> Query {
        """
        INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              created_at)
        VALUES (\(user), \(model), 10, 5, 0.25, 120, 'success', now() AT TIME ZONE 'UTC')
        """
    }

    private func text(
        _ admin: LiveAdmin, _ path: String, _ header: (name: String, value: String)
    ) async throws -> String {
        try await Command.run(
            "/usr/bin/curl",
            [
                "--silent", "--fail", "--header", "\(header.name): \(header.value)",
                "http://127.0.0.1:\(admin.port)\(path)",
            ])
    }

    private func answer(_ admin: LiveAdmin, _ path: String, as token: String) async throws -> JSON {
        let text = try await text(admin, path, Self.bearer(token)[0])
        return try #require(JSON(parsing: Array(text.utf8)))
    }

    @Test func aLogArrivesAtItsUserAndAtAdministrators() async throws {
        try await withAdmin { admin in
            let tokens = [try await admin.token(of: 1), try await admin.token(of: 2)]
            let operatorToken = try await admin.token(of: LiveAdmin.administrator)
            let port = admin.port
            try await EventStream.with(port: port, Self.bearer(tokens[0])) { (first) async throws in
                #expect(first.status == 200)
                #expect(first.headers.first(name: "Content-Type") == "text/event-stream")
                #expect(first.headers.first(name: "Cache-Control") == "no-store")
                #expect(first.headers.first(name: "X-Accel-Buffering") == "no")
                #expect(first.headers.first(name: "Content-Encoding") == nil)
                let totals = try #require(try await first.next("totals").json)
                #expect(totals["today"]?["requests"] == 0 && totals["timezone"] == "UTC")
                try await EventStream.with(port: port, Self.bearer(tokens[1])) { (second) async throws in
                    _ = try await second.next("totals")
                    try await EventStream.with(port: port, Self.bearer(operatorToken)) { (all) async throws in
                        _ = try await all.next("totals")
                        try await EventStream.with(port: port, Self.bearer(operatorToken), query: "?user_id=2") {
                            (other) async throws in
                            _ = try await other.next("totals")
                            try await admin.database.execute(Self.row(of: 1))
                            let log = try await answer(admin, "/api/v1/logs/1", as: tokens[0])
                            #expect(try await first.next("log").json == log)
                            #expect(try await all.logs(1) == [1])
                            try await admin.database.execute(Self.row(of: 2))
                            #expect(try await second.logs(1) == [2])
                            #expect(try await other.logs(1) == [2])
                            #expect(try await all.logs(1) == [2])
                        }
                    }
                }
            }
        }
    }

    @Test func aUserGetsNothingOfAnother() async throws {
        try await withAdmin { admin in
            let token = try await admin.token(of: 1)
            try await EventStream.with(port: admin.port, Self.bearer(token), query: "?user_id=2") {
                #expect($0.status == 403)
            }
            try await EventStream.with(port: admin.port, []) { #expect($0.status == 401) }
            try await EventStream.with(port: admin.port, Self.bearer(token), query: "?timezone=Mars/Base") {
                #expect($0.status == 400)
            }
        }
    }

    /// Alone, with a poll that begins with the stream, and beside a reader, with polls that are under way.
    @Test(arguments: [false, true]) func aLogThatCommitsAfterTheAnswerBeganIsSent(isBesideAnother: Bool) async throws {
        try await withAdmin { admin in
            let headers = Self.bearer(try await admin.token(of: 1))
            @Sendable func readFreshStreams() async throws {
                for number in 1...8 {
                    try await EventStream.with(port: admin.port, headers) { (stream) async throws in
                        try await admin.database.execute(Self.row(of: 1))
                        #expect(try await stream.next("log").json?["id"] == .integer(number))
                    }
                }
            }
            guard isBesideAnother else { return try await readFreshStreams() }
            try await EventStream.with(port: admin.port, headers) { (other) async throws in
                _ = try await other.next("totals")
                try await readFreshStreams()
            }
        }
    }

    @Test func theStreamOfAPageBeginsWhereThePageEnds() async throws {
        try await withAdmin { admin in
            let cookie = ("Cookie", try admin.cookieField)
            try await admin.database.execute(Self.row(of: 1))
            let page = try await text(admin, "/dashboard/logs", cookie)
            let stream = try #require(page.firstMatch(of: #/data-stream="(/[^"]+)" data-mark="([^"]+)"/#), "\(page)")
            #expect(stream.1 == "/api/v1/stream?user_id=1")
            try await admin.database.execute(Self.row(of: 1))
            try await EventStream.with(port: admin.port, [cookie], query: "?last_event_id=\(stream.2)") {
                (stream) async throws in
                #expect(try await stream.logs(1) == [2])
            }
            #expect(try await text(admin, "/dashboard/key", cookie).contains("data-stream") == false)
        }
    }

    @Test func rowsThatCommitOutOfOrderArriveOnceEach() async throws {
        try await withAdmin { admin in
            try await EventStream.with(port: admin.port, Self.bearer(try await admin.token(of: 1))) {
                (stream) async throws in
                _ = try await stream.next("totals")
                let first = try await OpenTransaction.begin(admin.database.pool) { _ = try $0.execute(Self.row(of: 1)) }
                try await admin.database.execute(Self.row(of: 1))
                #expect(try await stream.logs(1) == [2])
                try await first.end()
                #expect(try await stream.logs(1) == [1])
                try await admin.database.execute(Self.row(of: 1))
                #expect(try await stream.logs(1) == [3])
            }
        }
    }

    @Test func aReaderThatComesBackMissesNothingAndGetsNothingTwice() async throws {
        try await withAdmin { admin in
            let headers = Self.bearer(try await admin.token(of: 1))
            let (ids, open) = try await EventStream.with(port: admin.port, headers) { (stream) async throws in
                _ = try await stream.next("totals")
                let open = try await OpenTransaction.begin(admin.database.pool) { _ = try $0.execute(Self.row(of: 1)) }
                try await admin.database.pool.withConnection { connection in
                    try connection.transaction { for _ in 0..<5 { _ = try $0.execute(Self.row(of: 1)) } }
                }
                var ids: [String] = []
                for _ in 0..<5 { ids.append(try await stream.next("log").id) }
                return (ids, open)
            }
            for (number, id) in ids.enumerated() {
                try await EventStream.with(port: admin.port, headers + [("Last-Event-ID", id)]) {
                    (stream) async throws in
                    if number < 4 {
                        #expect(try await stream.logs(4 - number) == Array(3 + number...6).map { JSON.integer($0) })
                    }
                    // The totals of the begin follow what was missed.
                    #expect(try await stream.next()?.name == "totals")
                }
            }
            // While nobody reads.
            try await open.end()
            try await admin.database.execute(Self.row(of: 2))
            try await admin.database.execute(Self.row(of: 1))
            var last = ""
            for id in [ids[0], ids[4]] {
                last = try await EventStream.with(port: admin.port, headers, query: "?last_event_id=\(id)") {
                    (stream) async throws in
                    let expected: [JSON] = id == ids[0] ? [1, 3, 4, 5, 6, 8] : [1, 8]
                    #expect(try await stream.logs(expected.count) == expected)
                    #expect(try await stream.next()?.name == "totals")
                    return stream.lastEventID
                }
            }
            try await admin.database.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status)
                SELECT 1, 'm', 1, 1, 0.5, 1, 'success' FROM generate_series(9, 1008)
                """)
            try await EventStream.with(port: admin.port, headers + [("Last-Event-ID", last)]) { (stream) async throws in
                #expect(try await stream.logs(1_000) == Array(9...1_008).map { JSON.integer($0) })
                #expect(try await stream.next()?.name == "totals")
            }
            // Unknown, and too many.
            try await admin.database.execute(Self.row(of: 1))
            for id in ["nothing", last] {
                try await EventStream.with(port: admin.port, headers + [("Last-Event-ID", id)]) {
                    (stream) async throws in
                    let event = try await stream.next()
                    #expect(event?.name == "reset" && event?.json == ["reason": "too_old"], "\(id)")
                }
            }
        }
    }

    @Test func totalsEqualTheSummaryWhileWritersWrite() async throws {
        try await withAdmin { admin in
            let token = try await admin.token(of: 1)
            let all = try await admin.token(of: LiveAdmin.administrator)
            let writer = EventWriter(pool: admin.database.pool(as: .webhook), now: { .now })
            @Sendable func write(_ numbers: Range<Int>) async throws {
                for number in numbers {
                    let user: Int64 = number % 3 == 0 ? 2 : 1
                    if number % 2 == 0 {
                        try await admin.database.execute(Self.row(of: user))
                        continue
                    }
                    var event = UsageEvent.sample(UInt64(number), by: .user(user), at: .now)
                    event.durationMilliseconds = Int64(number * 7)
                    if number % 5 == 0 { event.status = .error }
                    _ = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
                }
            }
            try await write(1..<20)
            try await EventStream.with(port: admin.port, Self.bearer(token), query: "?timezone=Europe/Istanbul") {
                (own) async throws in
                try await EventStream.with(port: admin.port, Self.bearer(all)) { (overview) async throws in
                    async let writing: Void = write(20..<301)
                    try await check(own, 200, admin, token, "Europe/Istanbul")
                    try await check(overview, 300, admin, all, "UTC")
                    try await writing
                }
            }
        }
    }

    /// Reads totals until they count `requests`, and compares them with the summary.
    private func check(
        _ stream: EventStream, _ requests: Int, _ admin: LiveAdmin, _ token: String, _ zone: String
    ) async throws {
        var (totals, last): (JSON, Int64) = (.null, 0)
        repeat {
            totals = try #require(try await stream.next("totals").json)
            let count = try #require(totals["month"]?["requests"]?.wholeNumber)
            #expect(count >= last)
            last = count
        } while last < requests
        #expect(last == Int64(requests))
        for (part, start) in [("today", "today_from"), ("month", "month_from")] {
            let from = try #require(totals[start]?.text)
            let summary = try await answer(
                admin, "/api/v1/analytics/summary?from=\(from)&timezone=\(zone)", as: token)
            #expect(summary["current"] == totals[part])
        }
    }

    @Test func signingOutEndsTheStream() async throws {
        try await withAdmin { admin in
            let token = try await admin.token(of: 1)
            try await EventStream.with(port: admin.port, Self.bearer(token)) { (stream) async throws in
                _ = try await stream.next("totals")
                _ = try await Command.run(
                    "/usr/bin/curl",
                    [
                        "--silent", "--fail", "--request", "POST", "--header", "Authorization: Bearer \(token)",
                        "http://127.0.0.1:\(admin.port)/api/auth/logout",
                    ])
                #expect(try await stream.end() == "signed out")
            }
            try await EventStream.with(port: admin.port, Self.bearer(token)) { #expect($0.status == 401) }
        }
    }

    static let losses: [(user: Int64, byCookie: Bool, change: String)] = [
        (1, false, "DELETE FROM personal_access_tokens"), (1, true, "DELETE FROM sessions"),
        (1, false, "UPDATE users SET status = 'suspended' WHERE id = 1"), (1, true, "DELETE FROM users WHERE id = 1"),
        (LiveAdmin.administrator, false, "UPDATE users SET is_admin = false"),
    ]

    /// Longer than the timeouts of connections and requests, which must not end a stream.
    @Test(arguments: losses.indices) func aCallerWhoLosesHisRightLosesTheStream(index: Int) async throws {
        let (user, byCookie, change) = Self.losses[index]
        try await withAdmin(["ADMIN_IDLE_TIMEOUT": "1s", "ADMIN_REQUEST_TIMEOUT": "1s"]) { admin in
            let headers = byCookie ? [("Cookie", try admin.cookieField)] : Self.bearer(try await admin.token(of: user))
            try await EventStream.with(port: admin.port, headers) { (stream) async throws in
                _ = try await stream.next("totals")
                try await admin.database.execute(Self.row(of: user))
                #expect(try await stream.logs(1) == [1])
                try await admin.database.execute(Query(unsafeSQL: change))
                #expect(try await stream.end() == "signed out")
            }
        }
    }

    @Test func readersAreLimited() async throws {
        try await withAdmin(["ADMIN_STREAMS": "3", "ADMIN_STREAMS_PER_USER": "2"]) { admin in
            let (first, second) = (
                Self.bearer(try await admin.token(of: 1)), Self.bearer(try await admin.token(of: 2))
            )
            let port = admin.port
            try await EventStream.with(port: port, first) { one in
                #expect(one.status == 200)
                try await EventStream.with(port: port, first) { two in
                    #expect(two.status == 200)
                    try await EventStream.with(port: port, first) {
                        #expect($0.status == 429 && $0.headers.contains(name: "Retry-After"))
                    }
                    try await EventStream.with(port: port, second) { three in
                        #expect(three.status == 200)
                        try await EventStream.with(port: port, second) {
                            #expect($0.status == 503 && $0.headers.contains(name: "Retry-After"))
                        }
                    }
                }
            }
            // A client that has left holds no place.
            try await eventually("a place is free") {
                try await EventStream.with(port: port, first) { $0.status == 200 }
            }
        }
    }

    @Test func theServiceStopsWhileStreamsAreOpen() async throws {
        try await withAdmin { admin in
            try await EventStream.with(port: admin.port, Self.bearer(try await admin.token(of: 1))) {
                (stream) async throws in
                _ = try await stream.next("totals")
                let start = ContinuousClock.now
                admin.process.terminate()
                #expect(try await stream.end() == "the service stops")
                #expect(try await admin.process.waitForExit() == 0)
                #expect(ContinuousClock.now - start < .seconds(10))
            }
        }
    }

    @Test func aStreamEndsAtItsLifetimeAndIsResumed() async throws {
        try await withAdmin(["ADMIN_STREAM_LIFETIME": "1s"]) { admin in
            let headers = Self.bearer(try await admin.token(of: 1))
            let id = try await EventStream.with(port: admin.port, headers) { (stream) async throws in
                #expect(try await stream.end() == "come again")
                return stream.lastEventID
            }
            try await admin.database.execute(Self.row(of: 1))
            try await EventStream.with(port: admin.port, headers + [("Last-Event-ID", id)]) { (stream) async throws in
                #expect(try await stream.logs(1) == [1])
            }
        }
    }

    @Test func aStreamOutlivesTheDatabasesAbsence() async throws {
        try await withAdmin { admin in
            try await EventStream.with(port: admin.port, Self.bearer(try await admin.token(of: 1))) {
                (stream) async throws in
                _ = try await stream.next("totals")
                let server = try TestServer.configuration()
                let name = admin.database.name
                try await onServer(server, "ALTER DATABASE \(name) ALLOW_CONNECTIONS false")
                try await withPool(server) { pool in
                    _ = try await pool.withConnection {
                        try $0.query(
                            """
                            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE application_name = 'admin-api' AND datname = \(name)
                            """)
                    }
                }
                try await admin.process.waitForOutput("streams wait for the database")
                // A connection of the test that was there before.
                try await onServer(server, "ALTER DATABASE \(name) ALLOW_CONNECTIONS true")
                try await admin.database.execute(Self.row(of: 1))
                #expect(try await stream.logs(1) == [1])
                #expect(stream.comments.contains("waiting for the database"))
            }
        }
    }

    @Test func aBrowserReadsItByCookieThroughNginx() async throws {
        try await withAdmin { admin in
            try await ReverseProxy.with(before: admin) { proxy in
                let cookie = [("Cookie", "theme=dark; \(try admin.cookieField)")]
                try await EventStream.with(port: proxy.port, cookie) { (stream) async throws in
                    #expect(stream.status == 200)
                    _ = try await stream.next("totals")
                    try await admin.database.execute(Self.row(of: 1))
                    #expect(try await stream.logs(1) == [1])
                }
            }
        }
    }

    @Test func theNewestLogsOfABurstAreSentAndTheRestCounted() async throws {
        try await withAdmin { admin in
            try await EventStream.with(port: admin.port, Self.bearer(try await admin.token(of: 1))) {
                (stream) async throws in
                _ = try await stream.next("totals")
                try await admin.database.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          status, error_message, created_at)
                    SELECT 1, 'm', 1, 1, 0.5, 1, 'error', repeat('x', CASE WHEN i = 300 THEN 100000 ELSE 10 END), now()
                    FROM generate_series(1, 300) i
                    """)
                // The last one is too long.
                #expect(try await stream.logs(50) == Array(250..<300).map { JSON.integer($0) })
                let totals = try #require(try await stream.next("totals").json)
                #expect(totals["left_out_logs"] == 250 && totals["month"]?["errors"] == 300)
            }
        }
    }

    @Test func aSlowReaderIsAskedToReadAgain() async throws {
        let reader = LiveReader(
            LiveScope(user: 1, zone: .utc), caller: 1, start: .unknown, end: .now + .seconds(60), isAllowed: { true })
        let reset = ByteBuffer(string: "event: reset\n\n")
        let chunk = ByteBuffer(repeating: 120, count: 500_000)
        #expect(reader.send(chunk) { reset })
        #expect(reader.send(chunk) { reset })
        #expect(!reader.send(chunk) { reset })
        #expect(reader.send(ByteBuffer(string: "more")) { reset })
        reader.end(saying: "end")
        #expect(reader.send(chunk) { reset })
        let collector = Collector()
        var writer: any ResponseBodyWriter = collector
        try await reader.write(to: &writer)
        #expect(collector.text == "event: reset\n\nmore: end\n\n")
    }

    private final class Collector: ResponseBodyWriter {
        var text = ""
        func write(_ buffer: ByteBuffer) async throws { text += String(buffer: buffer) }
        func finish(_ trailingHeaders: HTTPFields?) async throws {}
    }
}
