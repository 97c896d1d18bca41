import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Programs of version 20 that still run after `0021_rollup_names.sql` was applied.
@Suite(.timeLimit(.minutes(30))) struct OlderProgramTests {
    /// The statements of one of its passes, as its role.
    @Test func anOlderWorkerRollsUpUnderTheFormerNames() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write((1...3).map { .sample($0, by: .user(user), at: StorageBench.noon) })
            // Two logs have the same 15 minutes and dimension. The second is added to the row of the first.
            for _ in 1...2 { try await bench.writeAsLaravel(user) }
            #expect(try await bench.number("SELECT last_value FROM public.api_logs_id_seq") == 5)
            let statements = try Fixtures.olderWorker()
            try await bench.worker.transaction { try $0.executeScript(statements) }
            #expect(
                try await bench.text(
                    """
                    SELECT concat_ws(' ', event_log_id, other_log_id, commit_horizon, day_boundary)
                    FROM metering.rollup_watermark
                    """) == "5 5 5 1995448")
            for table: Query in ["rollup_15m", "rollup_day"] {
                let requests = try await bench.number(
                    "SELECT sum(requests) FROM metering.\(table) WHERE user_id = \(user)")
                #expect(requests == 5)
            }
            try await bench.updateCounters()
            #expect(try await bench.verify().findings == [])
            // The present worker goes on where the older one ended.
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            try await bench.updateCounters()
            #expect(try await bench.requests(of: user) == 6)
            #expect(try await bench.verify().findings == [])
        }
    }

    /// A role that `codexflow grants` did not make has the same rights on the former name of a table.
    @Test func theViewsHaveTheRightsOfTheirTables() async throws {
        try await withTestDatabase(.empty) { database in
            let migrations = try Migration.load(from: Checkout.migrations)
            _ = try await database.pool.withConnection {
                try Migrator(migrations: Array(migrations.prefix(20))).migrate($0, now: StorageBench.noon)
            }
            try await database.execute("GRANT SELECT, INSERT ON metering.usage_days TO codexflow_webhook")
            try await database.execute(
                "GRANT SELECT (settled_log_id), UPDATE (spans_through) ON metering.usage_cursor TO codexflow_webhook")
            let rights: Query = """
                SELECT string_agg(r.word, ' ' ORDER BY r.word)
                FROM (SELECT c.relname || ' ' || a.privilege_type AS word
                      FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
                      WHERE a.grantee = 'codexflow_webhook'::regrole
                      UNION ALL
                      SELECT attrelid::regclass || '.' || attname || ' ' || a.privilege_type
                      FROM pg_attribute CROSS JOIN LATERAL aclexplode(attacl) a
                      WHERE a.grantee = 'codexflow_webhook'::regrole) r
                WHERE r.word ~ 'usage_(cursor|days)'
                """
            let before = try await database.text(rights)
            #expect(before?.split(separator: " ").count == 8)
            // The statements alone: `codexflow migrate` gives the roles their rights afterwards.
            let migration = try #require(migrations.first { $0.version == 21 })
            try await database.pool.transaction { try $0.executeScript(migration.sql) }
            #expect(try await database.text(rights) == before)
        }
    }

    /// `codexflow adopt --discard-history` of version 20 truncates tables, which fails for views.
    @Test func anOlderAdoptionFailsAndChangesNothing() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            let refusal = await #expect(throws: PostgresError.self) {
                try await bench.owner.transaction {
                    try $0.executeScript("TRUNCATE metering.quota_usage, metering.usage_quarters")
                }
            }
            #expect(refusal?.sqlState == "42809")
            #expect(try await bench.requests(of: user) == 1)
        }
    }
}
