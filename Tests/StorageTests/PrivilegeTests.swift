import Postgres
import Storage
import TestSupport
import Testing

/// The rights of each program's role. Every other test of the suite runs its code under these roles.
@Suite(.timeLimit(.minutes(30))) struct PrivilegeTests {

    private func names(_ connection: Connection, _ query: Query) throws -> Set<String> {
        Set(try connection.query(query).map { try $0.decode(0, as: String.self) })
    }

    /// Fails when a migration adds an object that ``Grant/table`` does not name.
    @Test func theTableNamesEveryObjectOfTheSchema() async throws {
        try await withTestDatabase { database in
            let there = try await database.pool.withConnection { connection in
                try names(
                    connection,
                    """
                    SELECT 'metering.' || c.relname FROM pg_class c
                    WHERE c.relnamespace = 'metering'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
                      AND c.relname !~ '^events_[0-9]{4}_[0-9]{2}$'
                      -- The sequence of an identity column is the column's own.
                      AND NOT (c.relkind = 'S' AND EXISTS (
                          SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'))
                    UNION ALL
                    SELECT format('metering.%s(%s)', p.proname, oidvectortypes(p.proargtypes)) FROM pg_proc p
                    WHERE p.pronamespace = 'metering'::regnamespace
                    """)
            }
            let named = Set(Grant.table.filter { $0.isOurs && $0.kind != .schema }.map(\.name))
            #expect(there == named)
        }
    }

    @Test(arguments: DatabaseRole.allCases)
    func eachRoleHasWhatItNeedsAndNoMore(role: DatabaseRole) async throws {
        try await withTestDatabase { database in
            try await database.pool(as: role).withConnection { connection in
                let check = try PrivilegeCheck.ofCurrentUser(connection)
                #expect(check.user == role.name(prefix: TestRoles.prefix))
                #expect(try check.lacks(connection, for: role) == [])
                if role != .owner {
                    #expect(try check.excess(connection) == [])
                    #expect(try check.surplus(connection, over: role) == [])
                }
            }
        }
    }

    @Test func onlyRolesThatNeedItReadPasswordsOrChangeKeys() async throws {
        try await withTestDatabase { database in
            await #expect(throws: PostgresError.self) {
                try await database.pool(as: .operator).withConnection { try $0.query("SELECT password FROM users") }
            }
            await #expect(throws: PostgresError.self) {
                try await database.pool(as: .webhook).withConnection {
                    try $0.execute("UPDATE users SET api_key = 'mine'")
                }
            }
        }
    }

    /// A revoked right is reported, with the statement that grants it.
    @Test func aRightThatIsTakenAwayIsNamedAndGivenBackByItsRemedy() async throws {
        let taken: [(Query, String)] = [
            ("REVOKE SELECT (plan) ON users FROM codexflow_webhook", "SELECT (plan) on public.users"),
            ("REVOKE UPDATE (updated_at) ON users FROM codexflow_webhook", "UPDATE (updated_at) on public.users"),
            ("REVOKE INSERT ON metering.events FROM codexflow_webhook", "INSERT on metering.events"),
            ("REVOKE USAGE ON SEQUENCE api_logs_id_seq FROM codexflow_webhook", "USAGE on public.api_logs_id_seq"),
            ("REVOKE USAGE ON SCHEMA metering FROM codexflow_webhook", "USAGE on metering"),
        ]
        try await withTestDatabase { database in
            for (revocation, name) in taken {
                try await database.execute(revocation)
                let lacks = try await database.pool(as: .webhook).withConnection {
                    try PrivilegeCheck.ofCurrentUser($0).lacks($0, for: .webhook)
                }
                #expect(lacks.map(\.description) == [name])
                try await database.execute(Query(unsafeSQL: lacks.map(\.remedy).joined()))
                let left = try await database.pool(as: .webhook).withConnection {
                    try PrivilegeCheck.ofCurrentUser($0).lacks($0, for: .webhook)
                }
                #expect(left == [])
            }
        }
    }

    @Test func surplusRightsAreReported() async throws {
        try await withTestDatabase { database in
            try await database.execute("GRANT SELECT, DELETE ON users TO codexflow_webhook")
            try await database.pool.withConnection { connection in
                let webhook = PrivilegeCheck(of: "codexflow_webhook")
                #expect(
                    try webhook.surplus(connection, over: .webhook)
                        == ["DELETE on public.users", "SELECT on public.users"])
                let strong = try PrivilegeCheck.ofCurrentUser(connection).excess(connection)
                #expect(strong == ["is a superuser"])
                let owner = try PrivilegeCheck(of: "codexflow_owner").excess(connection)
                #expect(owner.first?.contains("metering.events") == true)
            }
        }
    }

    @Test func grantsTwiceChangeNothingAndTakeBackWhatAFormerVersionGave() async throws {
        let rights: Query = """
            SELECT c.relname || ' ' || c.relacl::text FROM pg_class c
            WHERE c.relnamespace IN ('metering'::regnamespace, 'public'::regnamespace) AND c.relacl IS NOT NULL
            """
        try await withTestDatabase { database in
            let before = try await database.pool.withConnection { try names($0, rights) }
            #expect(before.count > 10)
            try await database.execute("GRANT ALL ON metering.events, public.users TO codexflow_webhook")
            try await TestRoles.grant(on: database.configuration)
            let after = try await database.pool.withConnection { try names($0, rights) }
            #expect(after == before)
        }
    }

    /// In a database of PostgreSQL 14 every role may create in `public`, Laravel's included.
    @Test func onlyLaravelGoesOnCreatingInPublic() async throws {
        try await withTestDatabase { database in
            // The role belongs to the cluster, which ends with the tests.
            try await database.execute(
                """
                DO $$ BEGIN CREATE ROLE laravel_app;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
                """)
            try await database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
            try await database.execute("ALTER TABLE users OWNER TO laravel_app")
            let may: Query = """
                SELECT string_agg(r.rolname, ' ' ORDER BY r.rolname) FROM pg_roles r
                WHERE (r.rolname LIKE 'codexflow\\_%' OR r.rolname = 'laravel_app')
                  AND has_schema_privilege(r.oid, 'public', 'CREATE')
                """
            #expect(try await database.text(may)?.contains("codexflow_webhook") == true)
            try await TestRoles.grant(on: database.configuration)
            #expect(try await database.text(may) == "laravel_app")
            #expect(try await database.text("SELECT has_schema_privilege('public', 'public', 'CREATE')") == "false")
        }
    }

    @Test func aMigrationGrantsItsNewObjects() async throws {
        try await withTestDatabase { database in
            try await database.execute("REVOKE ALL ON ALL TABLES IN SCHEMA metering FROM codexflow_webhook")
            let script = GrantScript(prefix: TestRoles.prefix)
            // A role that does not own the schema changes nothing.
            try await database.pool(as: .operator).withConnection { try script.refresh($0) }
            try await database.pool(as: .owner).withConnection { try script.refresh($0) }
            try await database.pool(as: .webhook).withConnection { connection in
                let lacks = try PrivilegeCheck.ofCurrentUser(connection).lacks(connection, for: .webhook)
                #expect(lacks == [])
            }
        }
    }

    @Test func theWorkerMakesPartitionsWithoutOwningThem() async throws {
        try await withTestDatabase { database in
            try await database.pool(as: .worker).withConnection {
                _ = try $0.execute("SELECT metering.create_events_partition('2030-01-01')")
            }
            #expect(
                try await database.text(
                    "SELECT relowner::regrole FROM pg_class WHERE oid = 'metering.events_2030_01'::regclass")
                    == "codexflow_owner")
            await #expect(throws: PostgresError.self) {
                try await database.pool(as: .webhook).withConnection {
                    try $0.execute("SELECT metering.create_events_partition('2031-01-01')")
                }
            }
        }
    }
}
