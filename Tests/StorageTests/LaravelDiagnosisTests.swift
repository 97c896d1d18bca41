import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Changes of Laravel's tables by operators, Laravel or extensions, and our findings about them.
@Suite(.timeLimit(.minutes(30))) struct LaravelDiagnosisTests {
    struct Change: Sendable, CustomTestStringConvertible {
        let sql: String
        let effect: LaravelFinding.Effect
        let words: String
        /// Whether the remedy is SQL that ends the finding.
        var isUndone = true

        var testDescription: String { sql }

        init(_ sql: String, _ effect: LaravelFinding.Effect, _ words: String, isUndone: Bool = true) {
            (self.sql, self.effect, self.words, self.isUndone) = (sql, effect, words, isUndone)
        }
    }

    private static let trigger = """
        CREATE FUNCTION public.vanish() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        """

    static let changes: [Change] = [
        // Triggers, of each timing, level and mode.
        Change(
            trigger + "CREATE TRIGGER t BEFORE INSERT ON api_logs FOR EACH ROW EXECUTE FUNCTION vanish()", .risky,
            "api_logs has a trigger that runs BEFORE INSERT for each row (t calls public.vanish()). It may change "
                + "or swallow"
        ),
        Change(
            trigger + "CREATE TRIGGER t AFTER UPDATE OR DELETE ON users EXECUTE FUNCTION vanish()", .risky,
            "users has a trigger that runs AFTER UPDATE or DELETE for each statement (t calls public.vanish()). "
                + "It runs inside"
        ),
        Change(
            trigger + """
                CREATE TRIGGER t BEFORE UPDATE ON rate_limits FOR EACH ROW EXECUTE FUNCTION vanish();
                ALTER TABLE rate_limits ENABLE ALWAYS TRIGGER t
                """, .risky, "rate_limits has a trigger that runs BEFORE UPDATE for each row, enabled always"),
        Change(
            trigger + """
                CREATE TRIGGER t BEFORE INSERT ON personal_access_tokens FOR EACH ROW EXECUTE FUNCTION vanish();
                ALTER TABLE personal_access_tokens ENABLE REPLICA TRIGGER t
                """, .handled, "enabled in replica sessions only (t calls public.vanish()). It does not run in our"),
        // Rules.
        Change(
            "CREATE RULE r AS ON INSERT TO api_logs DO INSTEAD NOTHING", .failing,
            "api_logs has a rule that replaces INSERT (r)"),
        Change(
            "CREATE RULE r AS ON DELETE TO users DO ALSO NOTHING", .risky, "users has a rule that adds to DELETE (r)"),
        // Soft deletes.
        Change(
            "ALTER TABLE users ADD deleted_at timestamp(0)", .handled,
            "users has soft deletes. A soft-deleted user is"),
        Change(
            "ALTER TABLE users ADD deleted_at timestamptz", .handled, "users has soft deletes. A soft-deleted user is"),
        Change(
            "ALTER TABLE users ADD deleted_at boolean NOT NULL DEFAULT false", .risky,
            "and its deleted_at is not the nullable time that Laravel makes (it is NOT NULL). As for Laravel",
            isUndone: false),
        Change(
            "ALTER TABLE users ADD deleted_at integer", .risky,
            "and its deleted_at is not the nullable time that Laravel makes (it is of the type integer)",
            isUndone: false),
        Change(
            "ALTER TABLE api_logs ADD deleted_at timestamp(0)", .risky, "api_logs has soft deletes", isUndone: false),
        // Sequences.
        Change(
            "INSERT INTO users (id, name, email, password) VALUES (50, 'Ada', 'a@b.c', 'x')", .failing,
            "The sequence of the ids of users lies before its largest id"),
        Change(
            """
            INSERT INTO users (id, name, email, password) VALUES (1, 'Ada', 'a@b.c', 'x');
            SELECT setval('users_id_seq', 1);
            INSERT INTO api_logs (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms)
            VALUES (900, 1, 'm', 1, 1, 1, 1)
            """, .failing,
            "The sequence of the ids of api_logs lies before its largest id. The next ids are taken, so events wait"),
        Change(
            "ALTER SEQUENCE api_logs_id_seq INCREMENT BY -1 MINVALUE -9 RESTART 1", .failing,
            "The ids of api_logs go down"),
        Change("ALTER SEQUENCE api_logs_id_seq INCREMENT BY 2", .handled, "The ids of api_logs go up by 2"),
        Change("ALTER SEQUENCE api_logs_id_seq CYCLE", .risky, "begins again after its end"),
        Change("ALTER SEQUENCE api_logs_id_seq CACHE 20", .failing, "Sessions draw ids of api_logs in advance"),
        Change(
            "ALTER SEQUENCE api_logs_id_seq AS integer; SELECT setval('api_logs_id_seq', 2000000000)", .risky,
            "The ids of api_logs are nearly used up", isUndone: false),
        Change(
            """
            ALTER TABLE api_logs ALTER id DROP DEFAULT; DROP SEQUENCE api_logs_id_seq;
            ALTER TABLE api_logs ALTER id ADD GENERATED ALWAYS AS IDENTITY
            """, .failing, "The ids of api_logs are always made by the table"),
        Change("ALTER TABLE api_logs ALTER id DROP DEFAULT", .risky, "do not come from its sequence any more"),
        Change(
            "ALTER TABLE api_logs ALTER id DROP DEFAULT; DROP SEQUENCE api_logs_id_seq", .failing,
            "The sequence of the ids of api_logs is missing", isUndone: false),
        // Keys and kinds.
        Change("ALTER TABLE users DROP CONSTRAINT users_api_key_unique", .risky, "users (api_key) is no longer unique"),
        Change(
            "ALTER TABLE api_logs DROP CONSTRAINT api_logs_pkey", .risky, "api_logs (id) is no longer unique",
            isUndone: false),
        Change(
            "ALTER TABLE rate_limits DROP CONSTRAINT rate_limits_user_id_period_unique", .risky,
            "rate_limits (user_id, period) is no longer unique", isUndone: false),
        Change(
            "ALTER TABLE api_logs DROP CONSTRAINT api_logs_user_id_foreign", .risky,
            "api_logs has no foreign key to users",
            isUndone: false),
        Change("DROP INDEX api_logs_user_id_created_at_index", .risky, "api_logs has no index", isUndone: false),
        Change("ALTER TABLE api_logs SET UNLOGGED", .failing, "api_logs is unlogged"),
        Change(
            "CREATE TABLE api_logs_2025 () INHERITS (api_logs)", .risky, "api_logs has tables that inherit from it",
            isUndone: false),
        Change(
            "ALTER TABLE models RENAME TO models_old; CREATE VIEW models AS SELECT * FROM models_old", .failing,
            "models is a view and not a table", isUndone: false),
        // Columns.
        Change(
            "CREATE DOMAIN public.money AS numeric(10,6); ALTER TABLE api_logs ALTER total_cost TYPE public.money",
            .failing,
            "api_logs.total_cost is public.money, needed is numeric", isUndone: false),
        Change(
            """
            ALTER TABLE api_logs DROP output_tokens;
            ALTER TABLE api_logs ADD output_tokens integer GENERATED ALWAYS AS (input_tokens) STORED
            """, .failing, "api_logs.output_tokens is generated by the table", isUndone: false),
        Change(
            "ALTER TABLE users ALTER is_admin DROP DEFAULT, ALTER is_admin TYPE integer USING is_admin::integer",
            .failing,
            "users.is_admin is integer, needed is boolean", isUndone: false),
        Change("ALTER TABLE personal_access_tokens DROP abilities", .failing, "abilities is missing", isUndone: false),
        // Settings that only a superuser may change.
        Change(
            """
            DO $$ BEGIN
                EXECUTE format('ALTER ROLE codexflow_operator IN DATABASE %I SET session_replication_role = replica',
                                       current_database()); END $$
            """, .risky, "session_replication_role is replica for codexflow_operator", isUndone: false),
        // Row-level security, of Laravel's tables and of ours, for other roles and for the owner of a table.
        Change("ALTER TABLE users ENABLE ROW LEVEL SECURITY", .blinding, "hides rows of users from", isUndone: false),
        Change(
            "ALTER TABLE api_logs ENABLE ROW LEVEL SECURITY", .blinding, "hides rows of api_logs from",
            isUndone: false),
        Change(
            "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY", .blinding, "hides rows of sessions from",
            isUndone: false),
        Change(
            "ALTER TABLE metering.events ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON metering.events USING (true)",
            .blinding,
            "hides rows of metering.events from", isUndone: false),
        Change(
            """
            ALTER TABLE metering.quarantine OWNER TO codexflow_operator;
            ALTER TABLE metering.quarantine ENABLE ROW LEVEL SECURITY;
            ALTER TABLE metering.quarantine FORCE ROW LEVEL SECURITY
            """, .blinding, "hides rows of metering.quarantine from", isUndone: false),
    ]

    private func findings(_ database: TestDatabase, as role: DatabaseRole = .operator) async throws -> [LaravelFinding]
    {
        // A new session, with the settings that the role has by now.
        var configuration = database.configuration.role(role)
        configuration.lockTimeout = .seconds(2)
        return try await withPool(configuration) { pool in
            try await pool.withConnection {
                try LaravelDiagnosis.findings($0, rolePrefix: TestRoles.prefix, connectedAs: role)
            }
        }
    }

    @Test func eachPublicTextIsListedOnce() {
        let findings = ["a", "b", "a"].enumerated().map { number, what in
            LaravelFinding(.risky, what, details: "\(number)", meaning: "It is so.", remedy: "Nothing.")
        }
        #expect(findings.publicTexts == ["a. It is so.", "b. It is so."])
    }

    @Test func laravelsOwnTablesAreFine() async throws {
        try await withTestDatabase { database in
            for role in DatabaseRole.allCases {
                let found = try await findings(database, as: role)
                #expect(found.isEmpty, "\(role): \(found.map(\.text))")
            }
        }
    }

    @Test(arguments: changes)
    func aChangeOfTheMeaningOfAnswersIsReported(change: Change) async throws {
        try await withTestDatabase { database in
            try await database.pool.withConnection { try $0.executeScript(change.sql) }
            let found = try await findings(database)
            let named = try #require(found.first { $0.text.contains(change.words) }, "\(found.map(\.text))")
            #expect(named.effect == change.effect)
            // The public text has no SQL, and no names except those of tables.
            for secret in ["SELECT", "ALTER", "codexflow_", "vanish", "setval"] {
                #expect(!named.publicText.contains(secret), "\(named.publicText)")
            }
            #expect(named.publicText.hasSuffix("."))
            guard change.isUndone, change.effect != .handled else { return }
            // The last sentence of a remedy is the statement.
            let remedy = named.remedy
            let sql = remedy.range(of: "ALTER|SELECT|DROP", options: .regularExpression).map {
                remedy[$0.lowerBound...]
            }
            let statement = String(try #require(sql))
            try await database.pool.withConnection { try $0.executeScript(statement) }
            let left = try await findings(database)
            #expect(!left.contains { $0.what == named.what }, "\(left.map(\.text))")
        }
    }

    /// Each service finds what affects it, with its own few rights.
    @Test func everyServiceSeesWhatConcernsIt() async throws {
        try await withTestDatabase { database in
            try await database.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
            for role in [DatabaseRole.webhook, .worker, .admin, .operator] {
                let found = try await database.pool(as: role).withConnection {
                    try LaravelDiagnosis.findings($0, for: role)
                }
                #expect(found.contains { $0.effect == .blinding && $0.what.contains("users") }, "\(role)")
            }
            // A policy that shows all rows today may hide a row tomorrow without an error. So the statement is refused.
            try await database.pool.withConnection { try $0.executeScript("CREATE POLICY p ON users USING (true)") }
            let error = await #expect(throws: PostgresError.self) {
                _ = try await database.pool(as: .webhook).withConnection { try $0.query("SELECT id FROM public.users") }
            }
            #expect(error?.isRowSecurity == true && error?.isTransient == true)
            try await database.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
            #expect(try await findings(database, as: .webhook).isEmpty)
        }
    }

    /// `setval` with `false` says which id comes next, as tools that reset sequences write it.
    @Test func aSequenceThatWasResetToTheNextIDIsFine() async throws {
        try await withTestDatabase { database in
            try await database.execute("INSERT INTO users (id, name, email, password) VALUES (7, 'Ada', 'a@b.c', 'x')")
            try await database.execute("SELECT setval('users_id_seq', 8, false)")
            for role in DatabaseRole.allCases {
                let found = try await findings(database, as: role)
                #expect(found.isEmpty, "\(role): \(found.map(\.text))")
            }
            try await database.execute("SELECT setval('users_id_seq', 7, false)")
            #expect(try await findings(database, as: .webhook).map(\.effect) == [.failing])
        }
    }

    /// A probe must be answered while Laravel changes a table.
    @Test func noCheckWaitsForAMigrationOfLaravel() async throws {
        try await withTestDatabase { database in
            let migration = try await OpenTransaction.begin(database.pool) { connection in
                try connection.executeScript(
                    "LOCK TABLE users, api_logs, rate_limits, models, personal_access_tokens IN ACCESS EXCLUSIVE MODE")
            }
            for role in DatabaseRole.allCases {
                let found = try await findings(database, as: role)
                #expect(found.isEmpty, "\(role): \(found.map(\.text))")
            }
            try await migration.end()
        }
    }

    /// Without its index, the largest id of a table would need a scan.
    @Test func noCheckReadsAWholeTable() async throws {
        try await withTestDatabase { database in
            try await database.execute("ALTER TABLE api_logs DROP CONSTRAINT api_logs_pkey")
            try await database.pool(as: .operator).withConnection { connection in
                try connection.executeScript("SET statement_timeout = '5s'")
                _ = try LaravelDiagnosis.findings(connection, for: .operator)
            }
            #expect(
                try await database.number("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'api_logs'") == 0)
        }
    }

    @Test(arguments: [QuarantineReason.unknownKey, .unknownUser, .identityConflict, .laravelUnavailable, .userLocked])
    func nothingIsDiscardedWhileRowsAreHidden(reason: QuarantineReason) throws {
        let hidden = LaravelFinding(.blinding, "x", meaning: "y.", remedy: "z")
        #expect(reason.remedy(amid: [hidden]).contains("Discard nothing"))
        let handled = LaravelFinding(.handled, "x", meaning: "y.", remedy: "z")
        #expect(reason.remedy(amid: [handled]) == reason.remedy)
    }
}
