import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Lists and exports of a million logs read indexes, and sort in memory.
@Suite(.timeLimit(.minutes(15))) struct LogPlanTests {
    /// A million logs of a year, a quarter of them of one user, the others of 3,000.
    private func fill(_ bench: StorageBench) async throws -> Int64 {
        let user = try await bench.makeUser()
        try await bench.execute(
            """
            INSERT INTO users (name, email, password)
            SELECT 'x', 'x' || g, 'x' FROM generate_series(1, 3000) g
            """)
        try await bench.pool.withConnection { connection in
            // Without a look at users for each row.
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
                            #expect(page.rows.count == 100)
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
                #expect(found.rows.count == 10)
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

    /// November's first thirty days before the 12th, and all time.
    private static var filters: [LogFilter] {
        var month = LogFilter()
        month.from = Timestamp(rfc3339: "2026-10-13T00:00:00Z")
        month.to = Timestamp(rfc3339: "2026-11-12T00:00:00Z")
        return [month, LogFilter()]
    }

    private func exported(_ filter: LogFilter, _ bench: StorageBench) async throws -> Int {
        try await bench.admin.transaction(.snapshot) { connection in
            var (rows, last) = (0, LogRow?.none)
            try LogStream.forEachBatch(filter, connection) { (batch: [LogRow]) in
                for row in batch {
                    if let last, let time = last.createdAt, let next = row.createdAt {
                        #expect((time, last.id) > (next, row.id))
                    }
                    last = row
                }
                rows += batch.count
            }
            return rows
        }
    }
}
