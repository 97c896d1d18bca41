import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Lists and exports of a million logs read indexes, and sort in memory.
@Suite(.timeLimit(.minutes(30))) struct LogPlanTests {
    /// A million logs of a year, a quarter of them of one user, the others of 3,000.
    private func fill(_ bench: StorageBench) async throws -> Int64 {
        let user = try await bench.makeUser()
        try await bench.execute(
            """
            INSERT INTO users (name, email, password)
            SELECT 'x', 'x' || g, 'x' FROM generate_series(1, 3000) g
            """)
        try await bench.pool.withConnection { connection in
            // This mode skips the foreign key, which would look up the user of each row.
            try connection.executeScript("SET session_replication_role = replica")
            for part in 0..<4 {
                try connection.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                        status,
                                          error_message, created_at)
                    SELECT CASE WHEN g % 4 = 0 THEN \(user)::bigint ELSE \(user)::bigint + 1 + g % 3000 END,
                        'model-' || g % 5, 1, 1,
                           g % 1000 * 0.001, g % 30000, CASE WHEN g % 20 = 0 THEN 'error' ELSE 'success' END,
                           CASE WHEN g % 100000 = 5 THEN 'rare' END, '2025-12-01'::timestamp + g * interval '30 seconds'
                    FROM generate_series(\(part) * 250000 + 1, \(part) * 250000 + 250000) g
                    """)
            }
            try connection.executeScript("RESET session_replication_role")
        }
        try await bench.execute("VACUUM ANALYZE api_logs")
        try await bench.execute("VACUUM ANALYZE users")
        return user
    }

    @Test func listsOfAMillionRowsScanNoTable() async throws {
        try await StorageBench.with { bench in
            let user = try await fill(bench)
            let spilled: Query = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
            let before = try await bench.number(spilled)
            let scans = try await bench.sequentialScans {
                for number in [1, 2_500, 5_000] {
                    for model in [nil, ["model-1"]] {
                        let page = try await bench.admin.transaction(.snapshot) {
                            try LogPage.read(of: user, number: number, size: 50, models: model, $0)
                        }
                        #expect(page.total == (model == nil ? 250_000 : 50_000))
                    }
                }
                for filter in Self.filters {
                    for order in LogList.Order.allCases {
                        var cursor: LogList.Cursor?
                        for _ in 0..<2 {
                            let after = cursor
                            let page = try await bench.admin.transaction(.snapshot) {
                                try LogList.read(filter, by: order, after: after, limit: 100, $0)
                            }
                            #expect(page.ids.count == 100)
                            cursor = page.next
                        }
                    }
                }
                var rare = LogFilter()
                rare.errorText = "RARE"
                let filter = rare
                let found = try await bench.admin.transaction(.snapshot) {
                    try LogList.read(filter, by: .time, limit: 100, $0)
                }
                #expect(found.ids.count == 10)
                #expect(try await exported(Self.filters[0], bench) == 86_400)
            }
            #expect(scans == [:])
            // Nothing is rolled up, and the last log is weeks old.
            let read = try await bench.rowsRead {
                _ = try await bench.admin.transaction(.snapshot) {
                    try LogList.read(LogFilter(), by: .time, limit: 100, $0)
                }
            }
            #expect(read < 10_000)
            #expect(try await bench.number(spilled) == before)
        }
    }

    /// Only the events of the rows are read, however many other events have the same times.
    @Test func factsAreReadForTheirRowsAlone() async throws {
        try await StorageBench.with { bench in
            let (user, other) = (try await bench.makeUser(), try await bench.makeUser())
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      created_at)
                SELECT CASE WHEN g % 100 = 0 THEN \(user)::bigint ELSE \(other)::bigint END, 'm', 1, 1, 0.5, 1,
                       '2026-11-20'::timestamp + g / 10 * interval '1 second'
                FROM generate_series(1, 40000) g
                """)
            try await bench.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                    is_cache_hit, shape, status, plan, model_group, provider)
                SELECT overlay(metering.event_key_floor(l.created_at AT TIME ZONE 'UTC')::text
                               PLACING lpad(l.id::text, 12, '0') FROM 25)::uuid, l.id, l.user_id,
                       l.created_at AT TIME ZONE 'UTC', 1, 1, 0, 0, 0, 2, 1, false, false, 'litellm', l.status, 'pro',
                           'm',
                       'p'
                FROM api_logs l
                """)
            try await bench.execute("VACUUM ANALYZE api_logs")
            try await bench.execute("VACUUM ANALYZE metering.events")
            let read = try await bench.rowsRead(of: "events") {
                for limit in [1, 10, 400] {
                    let entries = try await bench.admin.transaction(.snapshot) {
                        let page = try LogList.read(LogFilter(userID: user), by: .time, limit: limit, $0)
                        return try LogEntries.read(page.ids, $0)
                    }
                    #expect(entries.count == limit)
                    #expect((0..<limit).allSatisfy { entries.value($0, "provider") == "p" })
                }
            }
            #expect(read < 1_000)
        }
    }

    /// The memory of an export is bounded however long the error messages are.
    @Test func batchesOfLongMessagesAreShort() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                      error_message, created_at)
                SELECT \(user)::bigint, 'm', 1, 1, 0, 1,
                       CASE WHEN g % 100 = 0 THEN g || repeat('x', 1 << 20) WHEN g % 2 = 0 THEN g::text END,
                           '2026-11-20'
                FROM generate_series(1, 9000) g
                """)
            try await bench.admin.transaction(.snapshot) { connection in
                var next = 9000
                try LogStream.forEachBatch(LogFilter(userID: user), connection) { (entries: LogEntries) in
                    var bytes = 0
                    for entry in 0..<entries.count {
                        let message = entries.value(entry, "error_message")
                        let long = next % 100 == 0 ? 1 << 20 : 0
                        let length = next % 2 == 0 ? "\(next)".count + long : nil
                        #expect(message?.utf8.count == length && message?.hasPrefix("\(next)") != false)
                        bytes += message?.utf8.count ?? 0
                        next -= 1
                    }
                    #expect(bytes < 5 << 20)
                }
                #expect(next == 0)
            }
        }
    }

    /// November's first thirty days before the 12th, and all time.
    private static var filters: [LogFilter] {
        var month = LogFilter()
        month.from = Timestamp(rfc3339: "2026-10-13T00:00:00Z")
        month.to = Timestamp(rfc3339: "2026-11-12T00:00:00Z")
        return [month, LogFilter()]
    }

    private func exported(_ filter: LogFilter, _ bench: StorageBench) async throws -> Int {
        try await bench.admin.transaction(.snapshot) { connection in
            var (rows, last) = (0, (time: "~", id: Int64.max))
            try LogStream.forEachBatch(filter, connection) { (entries: LogEntries) in
                for index in 0..<entries.count {
                    let next = (time: try #require(entries.value(index, "occurred_at")), id: entries.id(index))
                    #expect(last > next)
                    last = next
                }
                rows += entries.count
            }
            return rows
        }
    }
}
