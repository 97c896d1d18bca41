import Postgres
import Storage
import TestSupport
import Testing

/// The database we belong to (`design.md` §5).
@Suite struct InstallationTests {
    private func require(_ ledger: Ledger) async throws {
        try await ledger.pool.withConnection { try Installation.require($0) }
    }

    private func adopt(_ ledger: Ledger, discardingHistory: Bool = false) async throws -> Installation.Adoption {
        try await ledger.pool.withConnection {
            try Installation.adopt($0, discardingHistory: discardingHistory, now: Ledger.noon)
        }
    }

    @Test func theSameTablesAreOurs() async throws {
        try await Ledger.with { ledger in
            try await require(ledger)
            #expect(try await adopt(ledger) == .unchanged)
        }
    }

    @Test func tablesMadeAgainAreNotOursUntilAdopted() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_ada")
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            try await ledger.makeUser()
            try await ledger.pool.withConnection { try Installation.recordHighestIDs($0) }
            try await ledger.pool.withConnection { connection in
                try connection.executeScript(
                    """
                    DROP SCHEMA public CASCADE; CREATE SCHEMA public;
                    \(try Fixtures.laravelSchema())
                    """)
            }
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
            await #expect(throws: Installation.HistoryAtRisk.self) { try await adopt(ledger) }
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
            #expect(try await adopt(ledger, discardingHistory: true) == .discardedHistory)
            try await require(ledger)
            #expect(try await ledger.number("SELECT count(*) FROM metering.events") == 0)
        }
    }

    @Test func aRestoreThatContinuesItsIdsKeepsHistory() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([.sample(1, by: .user(user), at: Ledger.noon)])
            try await ledger.pool.withConnection { try Installation.recordHighestIDs($0) }
            try await ledger.execute("UPDATE metering.installation SET users_table = 1")
            #expect(try await adopt(ledger) == .sameIDs)
            #expect(try await ledger.number("SELECT count(*) FROM metering.events") == 1)
        }
    }

    @Test func idsThatStartAgainAreNoticedUnderTheSameTables() async throws {
        try await Ledger.with { ledger in
            for _ in 0..<3 { try await ledger.makeUser() }
            try await ledger.pool.withConnection { try Installation.recordHighestIDs($0) }
            try await ledger.execute("TRUNCATE public.users RESTART IDENTITY CASCADE")
            await #expect(throws: Installation.Mismatch.self) { try await require(ledger) }
        }
    }
}
