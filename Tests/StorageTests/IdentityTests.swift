import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Who made a call (`design.md` §4, Identity; `litellm.md` §5).
@Suite(.timeLimit(.minutes(15))) struct IdentityTests {
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

    /// The product brief's "User Mapping Hatası".
    @Test func aDocumentedUnknownUserIDFallsBackToLaravelsID() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser(key: "cf_ada")
            let unknown = ada + 1_000
            let claims: [IdentityClaim] = [
                .key("cf_eve"), .key("1.5"), .key("-1"), IdentityClaim(keyHashes: [KeyHash(of: "true")]),
                .number(unknown), .number(unknown, written: "00\(unknown)"), .number(.max),
            ]
            var events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: Ledger.noon) }
            for index in events.indices {
                events[index].shape = .documented
                events[index].identity.laravelUserID = ada
            }
            for verdict in try await ledger.write(events) {
                guard case .stored = verdict else {
                    Issue.record("\(String(describing: verdict))")
                    continue
                }
            }
            let flags = try await ledger.text(
                "SELECT string_agg(DISTINCT concat(user_id, flags, key_hash), ' ') FROM metering.events")
            #expect(flags == "\(ada){attributed_by_id}")
            #expect(try await ledger.number("SELECT count(*) FROM api_logs WHERE user_id = \(ada)") == claims.count)
            // A user who is found by what the event states needs no flag.
            var known = UsageEvent.sample(50, by: .key("cf_ada"), at: Ledger.noon)
            (known.shape, known.identity.laravelUserID) = (.documented, ada)
            var numbered = UsageEvent.sample(51, by: .number(ada), at: Ledger.noon)
            (numbered.shape, numbered.identity.laravelUserID) = (.documented, ada)
            _ = try await ledger.write([known, numbered])
            #expect(try await ledger.number("SELECT count(*) FROM metering.events WHERE flags IS NULL") == 2)
        }
    }

    @Test func whatIsAnothersNeverFallsBack() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser(key: "cf_ada")
            let bob = try await ledger.makeUser(key: "cf_old")
            _ = try await ledger.write([.sample(100, by: .key("cf_old"), at: Ledger.noon)])
            ledger.clock.advance(by: .seconds(60))
            try await ledger.execute("UPDATE public.users SET api_key = 'cf_new' WHERE id = \(bob)")
            let later = Ledger.noon.advanced(by: .seconds(120))
            func verdict(_ claim: IdentityClaim, _ laravelUserID: Int64?, _ id: UInt64) async throws -> Verdict? {
                var event = UsageEvent.sample(id, by: claim, at: later)
                (event.shape, event.identity.laravelUserID) = (.documented, laravelUserID)
                return try await ledger.write([event])[0]
            }
            for (index, claim) in [IdentityClaim.key("cf_new"), .key("cf_old"), .number(bob)].enumerated() {
                #expect(try await verdict(claim, ada, UInt64(index)) == .quarantined(.identityConflict))
            }
            #expect(try await verdict(.key("cf_eve"), ada + 1_000, 3) == .quarantined(.unknownUser))
            #expect(try await verdict(.key("cf_eve"), nil, 4) == .quarantined(.unknownKey))
            // His own former key is his.
            guard case .stored = try await verdict(.key("cf_old"), bob, 5) else {
                Issue.record("not stored")
                return
            }
            // LiteLLM's never falls back.
            var event = UsageEvent.sample(6, by: .key("cf_eve"), at: later)
            event.identity.laravelUserID = ada
            #expect(try await ledger.write([event]) == [.quarantined(.unknownKey)])
        }
    }

    @Test func whatWaitedForItsUserFallsBackWhenTheyAppear() async throws {
        try await Ledger.with { ledger in
            let ada = try await ledger.makeUser()
            let next = ada + 1
            var event = UsageEvent.sample(1, by: .key("cf_eve"), at: Ledger.noon)
            (event.shape, event.identity.laravelUserID) = (.documented, next)
            var numbered = UsageEvent.sample(2, by: .number(next + 1_000), at: Ledger.noon)
            (numbered.shape, numbered.identity.laravelUserID) = (.documented, next)
            #expect(
                try await ledger.write([event, numbered])
                    == [.quarantined(.unknownUser), .quarantined(.unknownUser)])
            #expect(try await ledger.makeUser() == next)
            #expect(try await ledger.heal() == 2)
            let flags = try await ledger.text(
                "SELECT string_agg(concat(user_id, flags), ' ') FROM metering.events")
            #expect(flags == "\(next){attributed_by_id} \(next){attributed_by_id}")
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

extension IdentityClaim {
    /// The claim of a documented event whose `user_id` is a number: a key or an id.
    fileprivate static func number(_ id: Int64, written: String? = nil) -> IdentityClaim {
        let text = written ?? "\(id)"
        return IdentityClaim(keyHashes: [KeyHash(of: text)], isKeyOptional: true, userID: id, presentedKey: text)
    }
}

extension Ledger {
    /// Sequential scans of `users` so far, flushed from this session's counters.
    fileprivate func scansOfUsers() async throws -> Int {
        try await execute("SELECT pg_stat_force_next_flush()")
        return try await number("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'users'")
    }
}
