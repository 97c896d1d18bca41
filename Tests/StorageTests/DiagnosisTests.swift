import Domain
import Logging
import Postgres
import Storage
import TestSupport
import Testing

/// Each check of the doctor is well on a good database, and names what is wrong on a broken one.
@Suite(.timeLimit(.minutes(30))) struct DiagnosisTests {
    private func context(
        now: @escaping @Sendable () -> Timestamp = { StorageBench.noon }, longTransaction: Duration = .seconds(60)
    ) -> DatabaseCheck.Context {
        DatabaseCheck.Context(
            now: now, rolePrefix: TestRoles.prefix, migrationsPath: Checkout.migrations, silence: .seconds(3600),
            longTransaction: longTransaction)
    }

    private func findings(
        of name: String, in pool: ConnectionPool, _ context: DatabaseCheck.Context? = nil
    ) async throws -> [Finding] {
        let check = try #require(DatabaseCheck.all.first { $0.name == name })
        let context = context ?? self.context()
        return try await pool.withConnection { try check.run($0, context) }
    }

    @Test func aGoodDatabaseIsWellInEveryRespectAsTheOperatorSeesIt() async throws {
        try await withTestDatabase { database in
            try await database.execute(Self.event(at: "2026-11-23 11:30:00Z"))
            try await database.execute("SELECT setval('api_logs_id_seq', 1)")
            try await database.execute("UPDATE metering.rollup_watermark SET passed_at = '2026-11-23 11:59:00Z'")
            for check in DatabaseCheck.all where check.name != "clock" {
                let found = try await findings(of: check.name, in: database.pool(as: .operator))
                #expect(found.allSatisfy { $0.level == .ok && $0.remedy == nil }, "\(found)")
                #expect(!found.isEmpty)
            }
        }
    }

    private static func event(at moment: String) -> Query {
        """
        INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
            cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream, is_cache_hit,
            shape, status, plan, model_group)
        SELECT metering.event_key_floor(\(moment)::text::timestamptz), 1, 1, \(moment)::text::timestamptz, 1, 1, 0,
            0, 0,
               2, 1, false, false, 'litellm', 'success', 'pro', 'gpt-4'
        """
    }

    private static func entry(_ reason: String) -> Query {
        """
        INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                         deliveries, is_replayable, next_attempt_at)
        VALUES (gen_random_uuid(), \(reason), '', '{}', '2026-11-23 10:00:00Z', now(), 1, true, now())
        """
    }

    private static func alterDatabase(_ setting: String) -> Query {
        Query(
            unsafeSQL: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET \(setting)', current_database()); END $$")
    }

    struct Breakage: Sendable {
        let check: String
        let damage: Query
        let level: Finding.Level
        let words: String

        init(_ check: String, _ damage: Query, _ level: Finding.Level, _ words: String) {
            (self.check, self.damage, self.level, self.words) = (check, damage, level, words)
        }
    }

    static let breakages: [Breakage] = [
        Breakage("search path", "GRANT CREATE ON SCHEMA public TO PUBLIC", .warning, "may create in the schema public"),
        Breakage(
            "search path", "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
            .warning, "lower(character varying)"),
        Breakage(
            "search path",
            """
            DO $$ BEGIN
                CREATE FUNCTION public.equal(varchar, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
                CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = public.equal);
            END $$
            """, .warning, "operator public.=(character varying,text)"),
        Breakage(
            "search path",
            """
            DO $$ BEGIN
                EXECUTE format(
                    'ALTER ROLE codexflow_webhook IN DATABASE %I SET search_path = public', current_database());
            END $$
            """, .warning, "codexflow_webhook's search_path is not"),
        Breakage(
            "search path",
            """
            DO $$ BEGIN
                CREATE FUNCTION public.strange() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
                ALTER TABLE metering.spools ADD COLUMN other text DEFAULT public.strange();
            END $$
            """, .failure, "calls function public.strange()"),
        Breakage(
            "search path",
            """
            DO $$ BEGIN
                CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                ALTER FUNCTION public.shout() OWNER TO codexflow_webhook;
                CREATE TRIGGER shouting BEFORE INSERT ON api_logs FOR EACH ROW EXECUTE FUNCTION public.shout();
            END $$
            """, .warning, "shouting on public.api_logs calls public.shout() of codexflow_webhook"),
        Breakage("database", alterDatabase("default_transaction_read_only = on"), .failure, "read-only"),
        Breakage("durability", alterDatabase("synchronous_commit = off"), .warning, "synchronous_commit is off"),
        Breakage(
            "privileges", "REVOKE INSERT ON metering.events FROM codexflow_webhook", .failure,
            "codexflow_webhook lacks INSERT on metering.events"),
        Breakage(
            "privileges", "GRANT DELETE ON users TO codexflow_worker", .warning,
            "codexflow_worker has DELETE on public.users without need"),
        Breakage(
            "schema",
            """
            DELETE FROM metering.schema_migrations
            WHERE version = (SELECT max(version) FROM metering.schema_migrations)
            """,
            .failure,
            "is missing"),
        Breakage("schema", "UPDATE metering.schema_migrations SET checksum = 'x'", .failure, "do not fit"),
        Breakage("laravel", "ALTER TABLE api_logs DROP COLUMN error_message", .failure, "error_message is missing"),
        Breakage(
            "settings",
            """
            DO $$ BEGIN
                EXECUTE format('ALTER ROLE codexflow_admin IN DATABASE %I SET array_nulls = off', current_database());
            END $$
            """, .warning, "codexflow_admin has other defaults than our sessions: array_nulls"),
        Breakage("installation", "UPDATE metering.installation SET users_table = 1", .failure, "not those we know"),
        Breakage("partitions", "DROP TABLE metering.events_2026_11", .failure, "2026-11 is missing"),
        Breakage("partitions", "DROP TABLE metering.events_2026_12", .warning, "2026-12 is missing"),
        Breakage("partitions", event(at: "2040-01-01 00:00:00Z"), .warning, "1 events lie in the default partition"),
        Breakage(
            "maintenance", "ALTER TABLE metering.quota_deltas SET (autovacuum_enabled = off)", .warning,
            "autovacuum is off on metering.quota_deltas"),
        Breakage(
            "maintenance",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'api_logs_user_id_created_at_index'::regclass",
            .warning, "api_logs_user_id_created_at_index is invalid"),
        Breakage(
            "counters",
            "INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests) VALUES ('{}', '{}', '{}', '{}')",
            .warning, "1 deltas wait"),
        Breakage("sums", "UPDATE metering.rollup_watermark SET passed_at = NULL", .warning, "no pass of the worker"),
        Breakage(
            "sums", "UPDATE metering.rollup_watermark SET passed_at = '2026-11-23 09:00:00Z'", .warning, "ended 3 h ago"
        ),
        Breakage("quarantine", entry("laravel_unavailable"), .failure, "1 laravel_unavailable, the oldest 2 h old"),
        Breakage("quarantine", entry("unknown_key"), .warning, "1 unknown_key"),
        Breakage("quarantine", entry("denied"), .ok, "1 denied"),
        Breakage("last event", "TRUNCATE metering.events", .warning, "no event"),
        Breakage("last event", event(at: "2026-11-23 10:00:00Z"), .warning, "2 h ago"),
    ]

    @Test(arguments: breakages)
    func aBrokenSubjectIsReportedWithItsRemedy(breakage: Breakage) async throws {
        try await withTestDatabase { database in
            try await database.execute(breakage.damage)
            let found = try await findings(of: breakage.check, in: database.pool(as: .operator))
            let named = try #require(found.first { $0.message.contains(breakage.words) }, "\(found)")
            #expect(named.level == breakage.level)
            #expect((named.remedy == nil) == (breakage.level == .ok))
            #expect(found.map(\.level).max() == breakage.level)
        }
    }

    @Test func theRemedyOfAMissingRightIsItsGrant() async throws {
        try await withTestDatabase { database in
            try await database.execute("REVOKE SELECT (plan) ON users FROM codexflow_webhook")
            let found = try await findings(of: "privileges", in: database.pool(as: .operator))
            let remedy = try #require(found.first { $0.level == .failure }?.remedy)
            try await database.execute(Query(unsafeSQL: remedy))
            #expect(
                try await findings(of: "privileges", in: database.pool(as: .operator)).allSatisfy { $0.level == .ok })
        }
    }

    @Test func aSuperuserAndAnOwnerAreReported() async throws {
        try await withTestDatabase { database in
            let superuser = try await findings(of: "privileges", in: database.pool)
            #expect(superuser.contains { $0.level == .warning && $0.message.hasSuffix("is a superuser") })
            let webhook = try await findings(of: "privileges", in: database.pool(as: .webhook))
            #expect(webhook.contains { $0.message.contains("does not see other sessions") })
        }
    }

    @Test func aServiceWithTooStrongARoleIsNamedWhileItIsConnected() async throws {
        try await withTestDatabase { database in
            let services: [(String, ConnectionConfiguration, String?)] = [
                ("webhook-api", database.configuration.role(.webhook), nil),
                (
                    "admin-api", database.configuration.role(.webhook),
                    "admin-api and webhook-api connect as the same role"
                ),
                ("aggregation-worker", database.configuration, "aggregation-worker connects as the superuser"),
            ]
            var sessions: [OpenTransaction] = []
            var pools: [ConnectionPool] = []
            for (name, configuration, words) in services {
                var configuration = configuration
                configuration.applicationName = name
                let pool = ConnectionPool(
                    configuration, limits: PoolLimits(maxConnections: 1), logger: Logger(label: "test"))
                pools.append(pool)
                sessions.append(try await OpenTransaction.begin(pool) { _ = try $0.query("SELECT 1") })
                let found = try await findings(of: "privileges", in: database.pool(as: .operator))
                let named = found.filter { $0.level == .warning }.map(\.message)
                #expect(words.map { words in named.contains { $0.hasPrefix(words) } } ?? named.isEmpty, "\(named)")
            }
            for session in sessions { try await session.end() }
            for pool in pools { await pool.close() }
        }
    }

    @Test func aClockThatIsOffIsReported() async throws {
        try await withTestDatabase { database in
            let offsets: [(Duration, Finding.Level, String)] = [
                (.zero, .ok, "agree"), (.seconds(10), .warning, "behind ours"), (.seconds(-10), .warning, "ahead of"),
                (.seconds(600), .failure, "behind ours"),
            ]
            for (offset, level, words) in offsets {
                let found = try await findings(
                    of: "clock", in: database.pool(as: .operator), context(now: { .now.advanced(by: offset) }))
                #expect(found.map(\.level) == [level])
                #expect(found.first?.message.contains(words) == true)
            }
        }
    }

    @Test func aTransactionThatHoldsLaravelsTablesIsNamed() async throws {
        try await withTestDatabase { database in
            let laravel = try await OpenTransaction.begin(database.pool) { connection in
                try connection.execute("SELECT FROM users FOR UPDATE")
            }
            let soon = try await findings(of: "transactions", in: database.pool(as: .operator))
            #expect(soon.map(\.level) == [.ok])
            let late = try await findings(
                of: "transactions", in: database.pool(as: .operator), context(longTransaction: .zero))
            #expect(late.map(\.level) == [.warning])
            #expect(late.first?.message.contains("has held locks on users") == true)
            try await laravel.end()
        }
    }

    @Test func aServerThatIsNotDurableOrFullIsReported() async throws {
        try await withPostgresCluster { cluster in
            let database = TestCluster(configuration: cluster.configuration)
            for setting in ["fsync = off", "full_page_writes = off", "autovacuum = off", "max_connections = 10"] {
                try await database.execute(Query(unsafeSQL: "ALTER SYSTEM SET \(setting)"))
            }
            await database.pool.close()
            try await cluster.stop(.fast)
            try await cluster.start()
            let again = TestCluster(configuration: cluster.configuration)
            let durability = try await findings(of: "durability", in: again.pool)
            #expect(durability.map(\.level) == [.failure, .failure])
            #expect(durability.map(\.message) == ["fsync is off", "full_page_writes is off"])
            let maintenance = try await findings(of: "maintenance", in: again.pool)
            #expect(maintenance.map(\.message) == ["autovacuum is off on the whole server"])
            #expect(try await findings(of: "connections", in: again.pool).map(\.level) == [.ok])
            var sessions: [OpenTransaction] = []
            for _ in 0..<5 {
                sessions.append(try await OpenTransaction.begin(again.pool) { _ = try $0.query("SELECT 1") })
            }
            #expect(try await findings(of: "connections", in: again.pool).map(\.level) == [.warning])
            sessions.append(try await OpenTransaction.begin(again.pool) { _ = try $0.query("SELECT 1") })
            #expect(try await findings(of: "connections", in: again.pool).map(\.level) == [.failure])
            for session in sessions { try await session.end() }
            await again.pool.close()
        }
    }
}

/// The maintenance database of a cluster of a test's own.
private struct TestCluster: Queryable {
    let pool: ConnectionPool

    init(configuration: ConnectionConfiguration) {
        pool = ConnectionPool(configuration, limits: PoolLimits(maxConnections: 10), logger: Logger(label: "test"))
    }
}
