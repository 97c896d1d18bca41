import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct MigratorTests {
    @Test func requiredVersionIsTheHighestFile() throws {
        let migrations = try Migration.load(from: Checkout.migrations)
        #expect(migrations.last?.version == Migrator.requiredVersion)
    }

    /// A comment with another character would stop the migration of a database in another encoding.
    @Test func migrationsAreASCII() throws {
        for migration in try Migration.load(from: Checkout.migrations) {
            #expect(migration.sql.utf8.allSatisfy { $0 < 128 }, "\(migration.name)")
        }
    }

    /// Databases whose migrations had comments with other characters are still accepted.
    @Test(arguments: [
        (1, "580d186e013b86335292d0296b4d67b63d2438fce455c39f1c073a89a37ce1c7"),
        (14, "d1f8117b2e5eefbf84cfb4ec2e4708382dd0a6974fb6a1dca82b42710581a363"),
    ])
    func aFormerWordingIsNoChange(version: Int, checksum: String) async throws {
        try await withTestDatabase { database in
            let migrator = Migrator(migrations: try Migration.load(from: Checkout.migrations))
            let pending = { () async throws -> Int in
                try await database.pool.withConnection { try migrator.pendingMigrations($0).count }
            }
            try await database.execute(
                "UPDATE metering.schema_migrations SET checksum = \(checksum) WHERE version = \(version)")
            #expect(try await pending() == 0)
            // The checksum counts for this file only.
            try await database.execute("UPDATE metering.schema_migrations SET checksum = \(checksum) WHERE version = 2")
            await #expect(throws: MigrationError.self) { try await pending() }
        }
    }

    @Test func anEmptyDatabaseBecomesLaravelsSchemaExactly() async throws {
        let laravel = try await catalog(afterScript: Fixtures.laravelSchema())
        let ours = try await withTestDatabase { try await $0.pool.withConnection(Self.catalog) }
        #expect(laravel.count > 100)
        #expect(ours.subtracting(laravel) == [])
        #expect(laravel.subtracting(ours) == [])
    }

    @Test func laravelsMigrationsAreRecordedInTheirOrder() async throws {
        let names = try await withTestDatabase { database in
            try await database.pool.withConnection { connection in
                try connection.query("SELECT migration || ' ' || batch FROM migrations ORDER BY id")
                    .map { try $0.decode(0, as: String.self) }
            }
        }
        #expect(
            names == [
                "0001_01_01_000000_create_users_table 1", "0001_01_01_000001_create_cache_table 1",
                "0001_01_01_000002_create_jobs_table 1", "2025_12_27_125552_create_api_logs_table 1",
                "2025_12_27_125553_create_models_table 1", "2025_12_27_125555_create_rate_limits_table 1",
                "2025_12_27_125837_create_personal_access_tokens_table 1",
                "2025_12_27_135917_add_is_admin_to_users_table 1",
            ])
    }

    @Test func onLaravelsOwnDatabaseTheBaseMigrationsChangeNothing() async throws {
        try await withTestDatabase(.empty) { database in
            let schema = try Fixtures.laravelSchema()
            let (before, after) = try await database.pool.withConnection { connection in
                try connection.executeScript(schema)
                let before = try Self.catalog(connection)
                try Self.migrate(connection)
                return (before, try Self.catalog(connection))
            }
            #expect(before == after)
            let rows = try await database.pool.withConnection { try $0.query("SELECT FROM public.migrations").count }
            #expect(rows == 0)
        }
    }

    /// Version 7 stored 9999.999999 for a call without a stated cost, because LEAST ignores NULL.
    @Test func anUnstatedCostIsRemovedFromOlderRollups() async throws {
        try await withTestDatabase(.empty) { database in
            let migrations = try Migration.load(from: Checkout.migrations)
            let older = Migrator(migrations: Array(migrations.prefix(7)))
            _ = try await database.pool.withConnection { try older.migrate($0, now: StorageBench.noon) }
            // One priced and two unpriced calls are on a day that is in usage_days. One unpriced call is of today, and
            // one is after the watermark.
            try await database.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                        is_cache_hit,
                    shape, status, plan, model_group, cost)
                SELECT metering.event_key_floor(t::timestamptz + n * interval '1 millisecond'), n, 7, t::timestamptz,
                    1, 1, 0, 0,
                       0, 2, 1, false, false, 'litellm', 'success', 'pro', 'gpt-4', cost
                FROM (VALUES (1, '2026-11-21 10:00Z', 0.5), (2, '2026-11-21 10:00Z', NULL),
                             (3, '2026-11-21 10:00Z', NULL),
                             (4, '2026-11-23 10:00Z', NULL), (5, '2026-11-23 10:00Z', NULL)) v (n, t, cost)
                """)
            try await database.execute(
                """
                WITH dimension AS (
                    INSERT INTO metering.usage_dimensions (model, status, plan) VALUES ('gpt-4', 'success', 'pro')
                    RETURNING dimension
                ), cell (quarter, requests, unpriced, cost) AS (
                    VALUES (metering.quarter_of('2026-11-21 10:00Z'), 3, 2, 0.5),
                        (metering.quarter_of('2026-11-23 10:00Z'), 1, 1, 0)
                ), intervals AS (
                    INSERT INTO metering.usage_quarters
                    SELECT u, quarter, dimension, requests, unpriced, 1, 1, 0, 0, 0, cost,
                        cost + unpriced * 9999.999999, '{}'
                    FROM cell, dimension, (VALUES (0), (7)) users (u)
                )
                INSERT INTO metering.usage_days
                SELECT u, '2026-11-21', dimension, requests, unpriced, 1, 1, 0, 0, 0, cost,
                    cost + unpriced * 9999.999999, '{}'
                FROM cell, dimension, (VALUES (0), (7)) users (u) WHERE requests = 3
                """)
            try await database.execute(
                """
                UPDATE metering.usage_cursor
                SET event_log_id = 4, days_before = metering.quarter_of('2026-11-22 00:00Z')
                """)
            _ = try await database.pool.withConnection { try Self.migrate($0) }
            for table in ["rollup_15m", "rollup_day"] {
                let wrong = try await database.number(
                    "SELECT count(*) FROM metering.\(unsafeSQL: table) WHERE ledger_cost <> cost")
                #expect(wrong == 0, "\(table)")
            }
            #expect(try await database.number("SELECT count(*) FROM metering.rollup_15m") == 4)
        }
    }

    @Test func migratingTwiceAndInTwoProcessesIsSafe() async throws {
        try await withTestDatabase(.empty) { database in
            let applied = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<3 {
                    group.addTask { try await database.pool.withConnection { try Self.migrate($0).count } }
                }
                return try await group.reduce(0, +)
            }
            #expect(applied == Migrator.requiredVersion)
            try await database.pool.withConnection { try Migrator.requireCurrent($0) }
        }
    }

    @Test func aChangedFileIsRefused() async throws {
        try await withTestDatabase { database in
            try await database.pool.withConnection { connection in
                try connection.execute("UPDATE metering.schema_migrations SET checksum = 'x' WHERE version = 3")
                #expect(throws: MigrationError.changed("0003_identity_and_limits")) { try Self.migrate(connection) }
            }
        }
    }

    @Test func anOutdatedSchemaIsReported() async throws {
        try await withTestDatabase(.empty) { database in
            await #expect(throws: MigrationError.outdated(applied: 0, required: Migrator.requiredVersion)) {
                try await database.pool.withConnection { try Migrator.requireCurrent($0) }
            }
        }
        try await withTestDatabase { database in
            try await database.pool.withConnection { connection in
                try connection.execute("INSERT INTO metering.schema_migrations VALUES (99, 'x', 'x', now())")
                #expect(throws: MigrationError.unknownVersion(99)) { try Migrator.requireCurrent(connection) }
                #expect(throws: MigrationError.unknownVersion(99)) { try Self.migrate(connection) }
            }
        }
    }

    @Test func monthsAroundNowHavePartitionsAndOthersTheDefault() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let moments = [StorageBench.noon, StorageBench.noon.advanced(by: .seconds(-86_400 * 365 * 3))]
            _ = try await bench.write(moments.enumerated().map { .sample(UInt64($0), by: .user(user), at: $1) })
            let homes = try await bench.text(
                "SELECT string_agg(tableoid::regclass::text, ' ' ORDER BY occurred_at DESC) FROM metering.events")
            #expect(homes == "metering.events_2026_11 metering.events_default")
        }
    }

    @Test func newMonthsDoNotWaitForIngest() async throws {
        try await StorageBench.with { bench in
            let ingest = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.executeScript("LOCK TABLE ONLY metering.events IN ROW EXCLUSIVE MODE")
            }
            try await makePartitionsOfNextYear(bench)
            try await makePartitionsOfNextYear(bench)
            try await ingest.end()
            #expect(try await bench.text("SELECT to_regclass('metering.events_2028_11')") == "metering.events_2028_11")
            let (user, nextYear) = (try await bench.makeUser(), StorageBench.noon.advanced(by: .seconds(86_400 * 700)))
            _ = try await bench.write([.sample(1, by: .user(user), at: nextYear)])
            #expect(
                try await bench.text("SELECT tableoid::regclass FROM metering.events") == "metering.events_2028_10")
        }
    }

    @Test func newMonthsFailWhileADumpHoldsALock() async throws {
        try await StorageBench.with { bench in
            let dump = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.executeScript("LOCK TABLE metering.events IN ACCESS SHARE MODE")
            }
            let refusal = await #expect(throws: PostgresError.self) { try await makePartitionsOfNextYear(bench) }
            #expect(refusal?.sqlState == "55P03")
            try await dump.end()
            try await makePartitionsOfNextYear(bench)
            #expect(try await bench.text("SELECT to_regclass('metering.events_2028_11')") != nil)
        }
    }

    private func makePartitionsOfNextYear(_ bench: StorageBench) async throws {
        let nextYear = StorageBench.noon.advanced(by: .seconds(86_400 * 366))
        try await bench.owner.withConnection { try EventPartitions.ensure($0, now: nextYear) }
    }

    @Test func countersGoOnFromWhatLaravelHadCounted() async throws {
        try await withTestDatabase(.empty) { database in
            let history = """
                \(try Fixtures.laravelSchema());
                INSERT INTO public.users (name, email, password, plan) VALUES ('Ada', 'a', 'x', 'pro'), ('Bob', 'b',
                    'x', 'pro');
                INSERT INTO public.api_logs
                    (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, created_at)
                VALUES
                    (1, 'm', 100, 20, 0, 0, 'success', '2026-11-23 00:00:00'),
                    (1, 'm', 7, 0, 0, 0, 'error', '2026-11-23 11:59:59'),
                    (1, 'm', 1000, 0, 0, 0, 'rate_limited', '2026-11-23 11:00:00'),
                    (1, 'm', 2147483647, 2147483647, 0, 0, 'success', '2026-11-22 23:59:59'),
                    (2, 'm', 3, 4, 0, 0, 'success', '2026-11-01 00:00:00'),
                    (2, 'm', 50, 50, 0, 0, 'success', '2026-10-31 23:59:59'),
                    (2, 'm', -500, 9, 0, 0, 'success', '2026-11-02 08:00:00'),
                    (2, 'm', 60, 60, 0, 0, 'success', NULL);
                """
            try await database.pool.withConnection { connection in
                try connection.executeScript(history)
                for _ in 0..<2 { try Self.migrate(connection) }
                try RateLimitProjection.project(connection, .all, now: StorageBench.noon)
            }
            let projected = try await database.text(
                """
                SELECT string_agg(concat_ws(' ', user_id, period, used_tokens, used_requests),
                    E'\n' ORDER BY user_id, period)
                FROM public.rate_limits
                """)
            #expect(
                projected == """
                    1 daily 127 2
                    1 monthly 2147483647 3
                    2 daily 0 0
                    2 monthly 16 2
                    """)
            #expect(try await database.number("SELECT counted_log_id FROM metering.installation") == 8)
            let usage: Query = "SELECT tokens FROM metering.quota_usage WHERE user_id = 1 AND period = 'monthly'"
            #expect(try await database.number(usage) == 4_294_967_421)
        }
    }

    @Test func aCallThatLaravelIsWritingIsCountedToo() async throws {
        try await withTestDatabase(.empty) { database in
            let schema = try Fixtures.laravelSchema()
            try await database.pool.withConnection { try $0.executeScript(schema) }
            try await database.execute("INSERT INTO public.users (name, email, password) VALUES ('Ada', 'a', 'x')")
            let laravel = try await OpenTransaction.begin(database.pool) { connection in
                try connection.execute(
                    """
                    INSERT INTO public.api_logs
                        (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at)
                    VALUES (1, 'm', 1, 1, 0, 0, '2026-11-23 11:00:00')
                    """)
            }
            async let migration = database.pool.withConnection { try Self.migrate($0).count }
            let waiting: Query = """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'
                    AND query LIKE '%LOCK TABLE public.api_logs%'
                """
            #expect(try await database.number(waiting, becoming: 1, within: .seconds(30)) == 1)
            try await laravel.end()
            #expect(try await migration == Migrator.requiredVersion)
            let counted: Query = "SELECT requests FROM metering.quota_usage WHERE period = 'daily'"
            #expect(try await database.number(counted) == 1)
        }
    }

    @discardableResult
    private static func migrate(_ connection: Connection) throws -> [Migration] {
        try Migrator(migrations: Migration.load(from: Checkout.migrations)).migrate(connection, now: StorageBench.noon)
    }

    private func catalog(afterScript script: String) async throws -> Set<String> {
        try await withTestDatabase(.empty) { database in
            try await database.pool.withConnection { connection in
                try connection.executeScript(script)
                return try Self.catalog(connection)
            }
        }
    }

    /// Every column, constraint, index and sequence of the schema `public`, in words that can be compared.
    ///
    /// A CHECK that was dumped and loaded again has its casts elsewhere, so casts and parentheses are left out.
    private static func catalog(_ connection: Connection) throws -> Set<String> {
        let rows = try connection.query(
            """
            SELECT concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                             a.attnum, pg_get_expr(d.adbin, d.adrelid))
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname,
                             regexp_replace(pg_get_constraintdef(oid), '::(character varying|text)(\\[\\])?|[()]',
                                 '', 'g'))
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL
            SELECT concat_ws(' ', 'sequence', s.seqrelid::regclass, format_type(s.seqtypid, NULL), s.seqstart,
                             s.seqincrement, s.seqmax, s.seqcache, d.refobjid::regclass, d.refobjsubid)
            FROM pg_sequence s
            JOIN pg_class c ON c.oid = s.seqrelid AND c.relnamespace = 'public'::regnamespace
            LEFT JOIN pg_depend d ON d.objid = s.seqrelid AND d.deptype = 'a'
            """)
        return Set(try rows.map { try $0.decode(0, as: String.self) })
    }
}
