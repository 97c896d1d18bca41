import Postgres
import Storage
import TestSupport
import Testing

/// The database we belong to (`design.md` §5).
@Suite(.timeLimit(.minutes(15))) struct InstallationTests {
    private func require(_ ledger: Ledger) async throws {
        try await ledger.service.withConnection { try Installation.require($0) }
    }

    private func adopt(_ ledger: Ledger, discardingHistory: Bool = false) async throws -> Installation.Adoption {
        try await ledger.owner.withConnection {
            try Installation.adopt($0, discardingHistory: discardingHistory, now: Ledger.noon)
        }
    }

    @Test func theSameTablesAreOurs() async throws {
        try await Ledger.with { ledger in
            try await require(ledger)
            #expect(try await adopt(ledger) == .unchanged)
        }
    }

    @Test func thereIsNoHistoryToDiscardBesideOurOwnTables() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            await #expect(throws: Installation.NothingToDiscard.self) {
                try await adopt(ledger, discardingHistory: true)
            }
            #expect(try await ledger.number("SELECT count(*) FROM metering.events") == 1)
        }
    }

    @Test func missingTablesAreToldClearly() async throws {
        try await Ledger.with { ledger in
            try await ledger.makeUser()
            try await ledger.execute("DROP TABLE public.users, public.api_logs CASCADE")
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
            await #expect(throws: Installation.TablesMissing.self) { try await adopt(ledger) }
            await #expect(throws: Installation.TablesMissing.self) { try await adopt(ledger, discardingHistory: true) }
        }
    }

    @Test func tablesMadeAgainAreNotOursUntilAdopted() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_ada")
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            try await ledger.makeUser()
            try await makeTablesAgain(ledger)
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
            try await expectDiscard(ledger)
        }
    }

    @Test func moreRowsThanBeforeAreNotTheSameRows() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            // `migrate:fresh --seed`
            try await makeTablesAgain(
                ledger,
                filledBy: """
                    INSERT INTO users (name, email, password) SELECT 'Eve', i, 'x' FROM generate_series(1, 9) i;
                    INSERT INTO api_logs
                        (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at)
                    SELECT i, 'm', 5, 5, 0, 0, '2026-11-23 12:00:01' FROM generate_series(1, 9) i;
                    """)
            try await expectDiscard(ledger)
            #expect(try await ledger.number("SELECT counted_log_id FROM metering.installation") == 9)
            try await ledger.settleCounters()
            #expect(try await ledger.number("SELECT sum(used_tokens) FROM rate_limits WHERE period = 'daily'") == 90)
        }
    }

    @Test(arguments: [
        // Another user's row, a row of another second, no row at all; and the same.
        ("user_id = 2", false), ("created_at = created_at + interval '1 second'", false), ("id = 77", false),
        ("model = 'other'", true),
    ]) func aRowOfAnEventIsStillItsOwn(change: String, isSame: Bool) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            try await ledger.makeUser()
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            try await ledger.execute(Query(unsafeSQL: "UPDATE public.api_logs SET \(change)"))
            try await ledger.execute("UPDATE metering.installation SET users_table = 1")
            if isSame {
                #expect(try await adopt(ledger) == .sameIDs)
            } else {
                await #expect(throws: Installation.HistoryAtRisk.self) { try await adopt(ledger) }
            }
        }
    }

    @Test func aKeyOfAnotherUserPutsHistoryAtRisk() async throws {
        try await Ledger.with { ledger in
            try await ledger.makeUser(key: "cf_ada")
            try await ledger.service.withConnection { try KeyHistory.look($0, now: Ledger.noon) }
            try await makeTablesAgain(
                ledger,
                filledBy: """
                    INSERT INTO users (name, email, password, api_key)
                    VALUES ('Eve', 'eve', 'x', NULL), ('Ada', 'ada', 'x', 'cf_ada');
                    """)
            try await expectDiscard(ledger)
        }
    }

    @Test func aRestoreKeepsHistory() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_ada")
            _ = try await ledger.write([.sample(1, by: .key("cf_ada"), at: Ledger.noon)])
            _ = try await ledger.write([.sample(2, by: .user(user), at: Ledger.noon)])
            try await ledger.execute("CREATE TABLE metering.saved_users AS TABLE public.users")
            try await ledger.execute("CREATE TABLE metering.saved_logs AS TABLE public.api_logs")
            try await makeTablesAgain(
                ledger,
                filledBy: """
                    INSERT INTO users TABLE metering.saved_users;
                    INSERT INTO api_logs TABLE metering.saved_logs;
                    SELECT setval('users_id_seq', max(id)) FROM users;
                    SELECT setval('api_logs_id_seq', max(id)) FROM api_logs;
                    """)
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
            #expect(try await adopt(ledger) == .sameIDs)
            try await require(ledger)
            #expect(try await ledger.number("SELECT count(*) FROM metering.events") == 2)
            #expect(try await ledger.number("SELECT count(*) FROM metering.api_keys") == 1)
        }
    }

    @Test func idsThatStartAgainAreNoticedUnderTheSameTables() async throws {
        try await Ledger.with { ledger in
            for _ in 0..<3 { try await ledger.makeUser() }
            try await ledger.service.withConnection { try Installation.recordHighestIDs($0) }
            try await ledger.execute("TRUNCATE public.users RESTART IDENTITY CASCADE")
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
        }
    }

    /// `migrate:fresh`, with the ids seen before remembered.
    private func makeTablesAgain(_ ledger: Ledger, filledBy rows: String = "") async throws {
        try await ledger.pool.withConnection { connection in
            try Installation.recordHighestIDs(connection)
            try connection.executeScript(
                """
                DROP SCHEMA public CASCADE; CREATE SCHEMA public;
                \(try Fixtures.laravelSchema());
                SET search_path = public;
                \(rows)
                """)
        }
        // Rights go with the tables; an operator prints and grants them again.
        try await TestRoles.grant(on: ledger.database.configuration)
    }

    /// Expects that the tables are adopted only when history may go, and that it is gone then.
    private func expectDiscard(_ ledger: Ledger) async throws {
        await #expect(throws: Installation.HistoryAtRisk.self) { try await adopt(ledger) }
        await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
        #expect(try await adopt(ledger, discardingHistory: true) == .discardedHistory)
        try await require(ledger)
        let left: Query = "(SELECT count(*) FROM metering.events) + (SELECT count(*) FROM metering.api_keys)"
        #expect(try await ledger.number(left) == 0)
    }
}
