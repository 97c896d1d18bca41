import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Changes of `api_logs` by other writers, step by step. After each step our lists are compared with plain queries.
struct LogStory {
    private let bench: StorageBench
    private var random: SplitMix64
    private var users: [Int64] = []
    /// The differences from plain queries.
    private(set) var mismatches: [String] = []

    init(_ bench: StorageBench, seed: UInt64) async throws {
        self.bench = bench
        random = SplitMix64(seed: seed)
        for _ in 0..<4 { users.append(try await bench.makeUser()) }
        try await insert(300)
    }

    mutating func step() async throws {
        try await change()
        if Int.random(in: 0..<25, using: &random) == 0 { try await bench.rollUp() }
        try await comparePage()
        try await compareList()
        if Int.random(in: 0..<10, using: &random) == 0 { try await compareStream() }
    }

    // MARK: - Changes

    private mutating func change() async throws {
        let user = users.randomElement(using: &random) ?? 0
        let share = Int.random(in: 1...20, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<30: try await insert(Int.random(in: 1...40, using: &random))
        case 30..<45:
            try await bench.execute("DELETE FROM api_logs WHERE user_id = \(user) AND hashint8(id) % \(share) = 0")
        case 45..<55:
            let other = users.randomElement(using: &random) ?? 0
            try await bench.execute(
                "UPDATE api_logs SET user_id = \(other) WHERE user_id = \(user) AND hashint8(id) % \(share) = 1")
        case 55..<65:
            try await bench.execute(
                "UPDATE api_logs SET created_at = created_at - interval '3 days' WHERE hashint8(id) % \(share) = 2")
        case 65..<72:
            try await bench.execute(
                """
                UPDATE api_logs
                SET created_at = (ARRAY[NULL, 'infinity', '-infinity', '294276-12-31 23:59:59', '4713-01-01 BC',
                                        '2026-11-01', '1969-12-31 23:59:59']::timestamp[])[1 + id % 7]
                WHERE hashint8(id) % 37 = \(share)
                """)
        case 72..<80:
            // Old ids are inserted again.
            try await bench.execute(
                """
                INSERT INTO api_logs (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                    created_at)
                SELECT 0 - 1000 * \(share) - g, \(user), 'import', 1, 1, 0.5, g,
                    '2026-10-05'::timestamp + g * interval '1 hour'
                FROM generate_series(1, 15) g ON CONFLICT DO NOTHING
                """)
        case 80..<90:
            try await bench.execute(
                """
                UPDATE api_logs SET total_cost = 'NaN', status = 'error', error_message = 'Boom ' || id
                WHERE hashint8(id) % 41 = 3
                """
            )
        case 90..<93: try await bench.execute("DELETE FROM api_logs WHERE created_at > '2026-11-10'")
        case 93..<95: try await bench.execute("TRUNCATE api_logs")
        case 95..<97: try await bench.execute("DELETE FROM users WHERE id = \(user)")
        default: try await bench.execute("VACUUM ANALYZE api_logs")
        }
        if users.count > 1, try await bench.number("SELECT count(*) FROM users WHERE id = \(user)") == 0 {
            users.removeAll { $0 == user }
            users.append(try await bench.makeUser())
        }
    }

    private mutating func insert(_ count: Int) async throws {
        let user = users.randomElement(using: &random) ?? 0
        let start = Int.random(in: 0..<2_000, using: &random)
        let seconds = [0, 1, 600, 5000].randomElement(using: &random) ?? 0
        try await bench.execute(
            """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  error_message, created_at)
            SELECT \(user), 'model-' || g % 3, 1, 1, g % 7, g % 5,
                   (ARRAY['success', 'error', 'rate_limited'])[1 + g % 3],
                   CASE WHEN g % 9 = 0 THEN 'boom' END,
                   CASE WHEN g % 50 <> 7 THEN
                       '2026-10-01'::timestamp + \(start) * interval '40 minutes'
                       + g * \(seconds) * interval '1 second' END
            FROM generate_series(1, \(count)) g
            """)
    }

    // MARK: - Comparisons

    private mutating func comparePage() async throws {
        let user = users.randomElement(using: &random) ?? 0
        let size = [10, 37, 100].randomElement(using: &random) ?? 10
        let models = [nil, nil, ["model-1"], ["model-0", "import"], []].randomElement(using: &random) ?? nil
        let statuses = [nil, nil, ["error"], ["success", "error"]].randomElement(using: &random) ?? nil
        let days = [nil, nil, "2026-10-05", "2026-10-21", "2026-11-12"].map { $0.flatMap { CalendarDate($0) } }
        let from = days.randomElement(using: &random) ?? nil
        let through = days.randomElement(using: &random) ?? nil
        var effort = LogPage.Effort()
        if Bool.random(using: &random) { (effort.near, effort.few, effort.fewest) = (20, 15, 3) }
        let (number, chosen) = (Int.random(in: 1...12, using: &random), effort)
        var filter = LogFilter(userID: user)
        (filter.models, filter.statuses, filter.from, filter.to) = (models, statuses, from?.start, through?.next.start)
        let expected = try await plain(filter, "l.created_at DESC, l.id DESC")
        let page = try await bench.admin.transaction(.snapshot) {
            try LogPage.read(
                of: user, number: number, size: size, models: models, statuses: statuses, from: from, through: through,
                effort: chosen, $0)
        }
        let rows = Array(expected.dropFirst((number - 1) * size).prefix(size))
        if page.total != expected.count || page.rows.map(\.id) != rows {
            mismatches.append("page \(number) of \(size) of \(user): \(page.total) rows for \(expected.count)")
        }
    }

    private mutating func filter() -> LogFilter {
        var filter = LogFilter(userID: Bool.random(using: &random) ? nil : users.randomElement(using: &random))
        filter.models = [nil, nil, ["model-1"], ["model-2", "import"]].randomElement(using: &random) ?? nil
        filter.statuses = [nil, nil, ["error"]].randomElement(using: &random) ?? nil
        filter.minimumCost = [nil, nil, "2"].randomElement(using: &random)?.flatMap { DecimalLiteral($0) }
        filter.errorText = [nil, nil, nil, "BOOM"].randomElement(using: &random) ?? nil
        filter.from = [nil, "2026-10-05T10:20:30Z", "1960-01-01T00:00:00Z"].randomElement(using: &random)?
            .flatMap { Timestamp(rfc3339: $0) }
        filter.to = [nil, "2026-10-20T00:00:01Z", "9999-12-31T00:00:00Z"].randomElement(using: &random)?
            .flatMap { Timestamp(rfc3339: $0) }
        return filter
    }

    private mutating func compareList() async throws {
        let (filter, order) = (filter(), LogList.Order.allCases.randomElement(using: &random) ?? .time)
        let limit = [3, 20, 500].randomElement(using: &random) ?? 20
        let stretch = [1, 10, LogList.stretch].randomElement(using: &random) ?? 1
        let sorting: Query =
            switch order {
            case .time: "l.created_at DESC, l.id DESC"
            case .cost: "nullif(l.total_cost, 'NaN') DESC NULLS LAST, l.id DESC"
            case .duration: "l.response_time_ms DESC, l.id DESC"
            }
        let expected = try await plain(filter, sorting)
        var found: [Int64] = []
        var cursor: LogList.Cursor?
        repeat {
            let after = cursor
            let page = try await bench.admin.transaction(.snapshot) {
                try LogList.read(filter, by: order, after: after, limit: limit, stretch: stretch, $0)
            }
            found += page.ids
            cursor = page.next
        } while cursor != nil && found.count <= expected.count
        if found != expected {
            mismatches.append("list by \(order) of \(filter): \(found.count) for \(expected.count)")
        }
    }

    private mutating func compareStream() async throws {
        let filter = filter()
        let expected = try await plain(filter, "l.created_at DESC, l.id DESC")
        let found = try await bench.admin.transaction(.snapshot) { connection in
            var ids: [Int64] = []
            try LogStream.forEachBatch(filter, connection) { (entries: LogEntries) in
                ids += (0..<entries.count).map(entries.id)
            }
            return ids
        }
        if found != expected { mismatches.append("export of \(filter): \(found.count) for \(expected.count)") }
    }

    /// The ids that a plain query finds.
    private func plain(_ filter: LogFilter, _ order: Query) async throws -> [Int64] {
        try await bench.pool.withConnection { connection in
            try connection.query(
                """
                SELECT l.id FROM api_logs l
                WHERE (\(filter.userID)::bigint IS NULL OR l.user_id = \(filter.userID))
                  AND (\(filter.models)::text[] IS NULL OR l.model = ANY(\(filter.models)::text[]))
                  AND (\(filter.statuses)::text[] IS NULL OR l.status = ANY(\(filter.statuses)::text[]))
                  AND (\(filter.minimumCost?.text)::numeric IS NULL
                       OR nullif(l.total_cost, 'NaN') >= \(filter.minimumCost?.text)::numeric)
                  AND (\(filter.errorText)::text IS NULL OR l.error_message ILIKE '%' || \(filter.errorText) || '%')
                  AND (\(filter.from?.sqlText)::timestamp IS NULL OR l.created_at >= \(filter.from?.sqlText)::timestamp)
                  AND (\(filter.to?.sqlText)::timestamp IS NULL OR l.created_at < \(filter.to?.sqlText)::timestamp)
                ORDER BY \(order)
                """
            ).map { try $0.decode(0) }
        }
    }
}

/// Lists and pages equal the table after any change by other writers.
@Suite(.timeLimit(.minutes(30))) struct LogStoryTests {
    @Test(arguments: 1...4) func afterEachChangeListsEqualTheTable(seed: UInt64) async throws {
        try await StorageBench.with { bench in
            switch seed {
            case 2: try await bench.execute("CREATE INDEX metering_api_logs_time ON api_logs (created_at, id)")
            case 3:
                // Without the foreign key, rows of deleted users stay.
                try await bench.execute("ALTER TABLE api_logs DROP CONSTRAINT api_logs_user_id_foreign")
            default: break
            }
            var story = try await LogStory(bench, seed: TestSeed.seed(standard: seed))
            for _ in 0..<200 where story.mismatches.isEmpty { try await story.step() }
            #expect(story.mismatches == [])
        }
    }
}
