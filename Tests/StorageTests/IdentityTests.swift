import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Who made a call (`design.md` §4, Identity; `litellm.md` §5).
@Suite struct IdentityTests {
    @Test func everyWayToNameAUserFindsThem() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "any text, not only cf_")
            let claims: [IdentityClaim] = [
                .key("any text, not only cf_"), .hash(of: "any text, not only cf_"), .user(user),
                IdentityClaim(laravelUserID: user),
                IdentityClaim(
                    keyHashes: [KeyHash(of: "any text, not only cf_")], laravelUserID: user, userID: user),
            ]
            let events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: Ledger.noon) }
            for verdict in try await ledger.write(events) {
                guard case .stored = verdict else {
                    Issue.record("\(String(describing: verdict))")
                    continue
                }
            }
            #expect(try await ledger.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == claims.count)
        }
    }

    @Test func anUnknownKeyNeverFallsThroughToANumber() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_ada")
            let claim = IdentityClaim(keyHashes: [KeyHash(of: "cf_eve")], laravelUserID: user, userID: user)
            #expect(
                try await ledger.write([.sample(1, by: claim, at: Ledger.noon)]) == [.quarantined(.unknownKey)])
        }
    }

    @Test func identitiesThatDisagreeAreAConflict() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser(key: "cf_ada")
            let bob = try await ledger.makeUser(key: "cf_bob")
            let claims = [
                IdentityClaim(keyHashes: [KeyHash(of: "cf_ada")], laravelUserID: bob),
                IdentityClaim(keyHashes: [KeyHash(of: "cf_ada")], userID: bob),
                IdentityClaim(laravelUserID: ada, userID: bob),
            ]
            let events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: Ledger.noon) }
            let verdicts = try await ledger.write(events)
            #expect(verdicts == Array(repeating: .quarantined(.identityConflict), count: 3))
        }
    }

    @Test func aDocumentedNumberIsAKeyFirstAndAnIdSecond() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser()
            let bob = try await ledger.makeUser(key: "\(ada)")
            let claim = IdentityClaim(
                keyHashes: [KeyHash(of: "\(ada)")], isKeyOptional: true, userID: ada, presentedKey: "\(ada)")
            _ = try await ledger.write([.sample(1, by: claim, at: Ledger.noon)])
            #expect(try await ledger.number("SELECT user_id FROM api_logs") == Int(bob))
            let other = IdentityClaim(
                keyHashes: [KeyHash(of: "\(bob)")], isKeyOptional: true, userID: bob, presentedKey: "\(bob)")
            _ = try await ledger.write([.sample(2, by: other, at: Ledger.noon)])
            #expect(try await ledger.number("SELECT count(*) FROM api_logs WHERE user_id = \(bob)") == 2)
        }
    }

    @Test func aKeyCreatedASecondAgoWorksByItsHashToo() async throws {
        try await Ledger.with { ledger in
            // A look that finds nothing new.
            _ = try await ledger.write([.sample(1, by: .hash(of: "cf_nobody"), at: Ledger.noon)])
            try await ledger.makeUser(key: "cf_new")
            // Looks take at most a twentieth of the time, and on a busy machine one takes its time.
            ledger.clock.advance(by: .seconds(20))
            guard case .stored = try await ledger.write([.sample(2, by: .hash(of: "cf_new"), at: Ledger.noon)])[0]
            else {
                Issue.record("not stored")
                return
            }
        }
    }

    @Test func aKeyInClearWorksAtOnceHoweverManyAreUnknown() async throws {
        try await Ledger.with { ledger in
            _ = try await ledger.write([.sample(1, by: .hash(of: "cf_nobody"), at: Ledger.noon)])
            try await ledger.makeUser(key: "cf_new")
            guard case .stored = try await ledger.write([.sample(2, by: .key("cf_new"), at: Ledger.noon)])[0] else {
                Issue.record("not stored")
                return
            }
        }
    }

    @Test func aReplacedKeyStillFindsItsUserForCallsMadeBefore() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser(key: "cf_old")
            _ = try await ledger.write([.sample(1, by: .key("cf_old"), at: Ledger.noon)])
            ledger.clock.advance(by: .seconds(60))
            try await ledger.execute("UPDATE public.users SET api_key = 'cf_new' WHERE id = \(user)")
            let (before, after) = (Ledger.noon.advanced(by: .seconds(30)), Ledger.noon.advanced(by: .seconds(90)))
            let verdicts = try await ledger.write([
                .sample(2, by: .hash(of: "cf_new"), at: before), .sample(3, by: .hash(of: "cf_old"), at: before),
                .sample(4, by: .hash(of: "cf_old"), at: after),
            ])
            #expect(verdicts[2] == .quarantined(.unknownKey))
            #expect(try await ledger.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == 3)
        }
    }

    @Test func aKeyThatMovedBelongsToEachHolderInTurn() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser(key: "cf_shared")
            let bob = try await ledger.makeUser()
            _ = try await ledger.write([.sample(1, by: .key("cf_shared"), at: Ledger.noon)])
            ledger.clock.advance(by: .seconds(60))
            try await ledger.execute("UPDATE public.users SET api_key = NULL WHERE id = \(ada)")
            try await ledger.execute("UPDATE public.users SET api_key = 'cf_shared' WHERE id = \(bob)")
            _ = try await ledger.write([
                .sample(2, by: .hash(of: "cf_shared"), at: Ledger.noon),
                .sample(3, by: .hash(of: "cf_shared"), at: Ledger.noon.advanced(by: .seconds(61))),
            ])
            let owners = try await ledger.text(
                "SELECT string_agg(user_id::text, ' ' ORDER BY event_key) FROM metering.events")
            #expect(owners == "\(ada) \(ada) \(bob)")
        }
    }

    @Test func manyWritersAtTheFirstLookKnowEveryKey() async throws {
        try await Ledger.with { ledger in
            try await ledger.execute(
                """
                INSERT INTO users (name, email, password, api_key)
                SELECT 'x', g::text, 'x', 'cf_' || g FROM generate_series(1, 2000) g
                """)
            try await withThrowingTaskGroup(of: [Verdict?].self) { group in
                for index in 1...8 {
                    group.addTask {
                        try await ledger.write([.sample(UInt64(index), by: .hash(of: "cf_\(index)"), at: Ledger.noon)])
                    }
                }
                for try await verdicts in group {
                    if case .quarantined(let reason) = verdicts[0] { Issue.record("\(reason)") }
                }
            }
        }
    }

    @Test func keysInClearAndNumbersCostNoScan() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            let number = IdentityClaim(
                keyHashes: [KeyHash(of: "\(user)")], isKeyOptional: true, userID: user, presentedKey: "\(user)")
            _ = try await ledger.write([.sample(0, by: number, at: Ledger.noon)])
            let before = try await ledger.text("SELECT max(seen_at) FROM metering.api_keys")
            // Nobody's look may find this one: it would be a look at everybody.
            try await ledger.makeUser(key: "cf_unseen")
            ledger.clock.advance(by: .seconds(60))
            _ = try await ledger.write([
                .sample(1, by: number, at: Ledger.noon), .sample(2, by: .key("cf_stranger"), at: Ledger.noon),
            ])
            #expect(try await ledger.text("SELECT max(seen_at) FROM metering.api_keys") == before)
            #expect(try await ledger.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == 2)
        }
    }

    @Test func aFloodOfUnknownKeysCostsOneScanASecond() async throws {
        try await Ledger.with { ledger in
            try await ledger.makeUser(key: "cf_ada")
            let before = try await ledger.scansOfUsers()
            for round in 0..<20 {
                let events = (0..<50).map { index in
                    UsageEvent.sample(
                        UInt64(round * 50 + index), by: .hash(of: "cf_stranger\(round).\(index)"), at: Ledger.noon)
                }
                _ = try await ledger.write(events)
            }
            #expect(try await ledger.scansOfUsers() - before <= 4)
            #expect(try await ledger.number("SELECT count(*) FROM metering.api_keys") == 1)
        }
    }
}

extension Ledger {
    /// Sequential scans of `users` so far, flushed from this session's counters.
    fileprivate func scansOfUsers() async throws -> Int {
        try await execute("SELECT pg_stat_force_next_flush()")
        return try await number("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'users'")
    }
}
