import Postgres
import Storage
import TestSupport
import Testing

/// The guard of the installation.
@Suite(.timeLimit(.minutes(30))) struct InstallationTests {
    private func require(_ bench: StorageBench) async throws {
        try await bench.service.withConnection { try Installation.require($0) }
    }

    private func adopt(_ bench: StorageBench, discardingHistory: Bool = false) async throws -> Installation.Adoption {
        try await bench.owner.withConnection {
            try Installation.adopt($0, discardingHistory: discardingHistory, now: StorageBench.noon)
        }
    }

    @Test func theSameTablesAreOurs() async throws {
        try await StorageBench.with { bench in
            try await require(bench)
            #expect(try await adopt(bench) == .unchanged)
        }
    }

    @Test func thereIsNoHistoryToDiscardBesideOurOwnTables() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            await #expect(throws: Installation.NothingToDiscard.self) {
                try await adopt(bench, discardingHistory: true)
            }
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 1)
        }
    }

    @Test func missingTablesAreReported() async throws {
        try await StorageBench.with { bench in
            try await bench.makeUser()
            try await bench.execute("DROP TABLE public.users, public.api_logs CASCADE")
            await #expect(throws: Installation.Mismatch.self) { try await require(bench) }
            await #expect(throws: Installation.TablesMissing.self) { try await adopt(bench) }
            await #expect(throws: Installation.TablesMissing.self) { try await adopt(bench, discardingHistory: true) }
        }
    }

    @Test func tablesMadeAgainAreNotOursUntilAdopted() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.makeUser()
            try await makeTablesAgain(bench)
            await #expect(throws: Installation.Mismatch.self) { try await require(bench) }
            try await expectDiscard(bench)
        }
    }

    @Test func moreRowsThanBeforeAreNotTheSameRows() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            // `migrate:fresh --seed`
            try await makeTablesAgain(
                bench,
                filledBy: """
                    INSERT INTO users (name, email, password) SELECT 'Eve', i, 'x' FROM generate_series(1, 9) i;
                    INSERT INTO api_logs
                        (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at)
                    SELECT i, 'm', 5, 5, 0, 0, '2026-11-23 12:00:01' FROM generate_series(1, 9) i;
                    """)
            try await expectDiscard(bench)
            #expect(try await bench.number("SELECT counted_log_id FROM metering.installation") == 9)
            try await bench.updateCounters()
            #expect(try await bench.number("SELECT sum(used_tokens) FROM rate_limits WHERE period = 'daily'") == 90)
        }
    }

    @Test(arguments: [
        // The row of another user, a row of another second, no row, and the same row.
        ("user_id = 2", false), ("created_at = created_at + interval '1 second'", false), ("id = 77", false),
        ("model = 'other'", true),
    ]) func aRowOfAnEventIsStillItsOwn(change: String, isSame: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.execute(Query(unsafeSQL: "UPDATE public.api_logs SET \(change)"))
            try await bench.execute("UPDATE metering.installation SET users_table = 1")
            if isSame {
                #expect(try await adopt(bench) == .sameIDs)
            } else {
                await #expect(throws: Installation.HistoryAtRisk.self) { try await adopt(bench) }
            }
        }
    }

    @Test func aKeyOfAnotherUserPutsHistoryAtRisk() async throws {
        try await StorageBench.with { bench in
            try await bench.makeUser(key: "cf_ada")
            try await bench.service.withConnection { try KeyHistory.sync($0, now: StorageBench.noon) }
            try await makeTablesAgain(
                bench,
                filledBy: """
                    INSERT INTO users (name, email, password, api_key)
                    VALUES ('Eve', 'eve', 'x', NULL), ('Ada', 'ada', 'x', 'cf_ada');
                    """)
            try await expectDiscard(bench)
        }
    }

    @Test func aRestoreKeepsHistory() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            _ = try await bench.write([.sample(1, by: .key("cf_ada"), at: StorageBench.noon)])
            _ = try await bench.write([.sample(2, by: .user(user), at: StorageBench.noon)])
            try await bench.execute("CREATE TABLE metering.saved_users AS TABLE public.users")
            try await bench.execute("CREATE TABLE metering.saved_logs AS TABLE public.api_logs")
            try await makeTablesAgain(
                bench,
                filledBy: """
                    INSERT INTO users TABLE metering.saved_users;
                    INSERT INTO api_logs TABLE metering.saved_logs;
                    SELECT setval('users_id_seq', max(id)) FROM users;
                    SELECT setval('api_logs_id_seq', max(id)) FROM api_logs;
                    """)
            await #expect(throws: Installation.Mismatch.self) { try await require(bench) }
            #expect(try await adopt(bench) == .sameIDs)
            try await require(bench)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 2)
            #expect(try await bench.number("SELECT count(*) FROM metering.api_keys") == 1)
        }
    }

    @Test func idsThatStartAgainAreNoticedUnderTheSameTables() async throws {
        try await StorageBench.with { bench in
            for _ in 0..<3 { try await bench.makeUser() }
            try await bench.service.withConnection { try Installation.recordHighestIDs($0) }
            try await bench.execute("TRUNCATE public.users RESTART IDENTITY CASCADE")
            await #expect(throws: Installation.Mismatch.self) { try await require(bench) }
        }
    }

    /// `migrate:fresh`, with the ids seen before remembered.
    private func makeTablesAgain(_ bench: StorageBench, filledBy rows: String = "") async throws {
        try await bench.pool.withConnection { connection in
            try Installation.recordHighestIDs(connection)
            try connection.executeScript(
                """
                DROP SCHEMA public CASCADE; CREATE SCHEMA public;
                \(try Fixtures.laravelSchema());
                SET search_path = public;
                \(rows)
                """)
        }
        // Rights are dropped with the tables, and an operator grants them again.
        try await TestRoles.grant(on: bench.database.configuration)
    }

    /// Expects that the tables are adopted only when history may go, and that it is gone then.
    private func expectDiscard(_ bench: StorageBench) async throws {
        await #expect(throws: Installation.HistoryAtRisk.self) { try await adopt(bench) }
        await #expect(throws: Installation.Mismatch.self) { try await require(bench) }
        #expect(try await adopt(bench, discardingHistory: true) == .discardedHistory)
        try await require(bench)
        let left: Query = "(SELECT count(*) FROM metering.events) + (SELECT count(*) FROM metering.api_keys)"
        #expect(try await bench.number(left) == 0)
    }
}
