import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The attribution of events to users.
@Suite(.timeLimit(.minutes(30))) struct IdentityTests {
    @Test func everyWayToNameAUserFindsThem() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "any text, not only cf_")
            let claims: [IdentityClaim] = [
                .key("any text, not only cf_"), .hash(of: "any text, not only cf_"), .user(user),
                IdentityClaim(laravelUserID: user),
                IdentityClaim(
                    keyHashes: [KeyHash(of: "any text, not only cf_")], laravelUserID: user, userID: user),
            ]
            let events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: StorageBench.noon) }
            for verdict in try await bench.write(events) {
                guard case .stored = verdict else {
                    Issue.record("\(String(describing: verdict))")
                    continue
                }
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == claims.count)
        }
    }

    @Test func anUnknownKeyNeverFallsThroughToANumber() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            let claim = IdentityClaim(keyHashes: [KeyHash(of: "cf_eve")], laravelUserID: user, userID: user)
            #expect(
                try await bench.write([.sample(1, by: claim, at: StorageBench.noon)]) == [.quarantined(.unknownKey)])
        }
    }

    /// The product brief's "User Mapping Hatası".
    @Test func aDocumentedUnknownUserIDFallsBackToLaravelsID() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser(key: "cf_ada")
            let unknown = ada + 1_000
            let claims: [IdentityClaim] = [
                .key("cf_eve"), .key("1.5"), .key("-1"), IdentityClaim(keyHashes: [KeyHash(of: "true")]),
                .number(unknown), .number(unknown, written: "00\(unknown)"), .number(.max),
            ]
            var events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: StorageBench.noon) }
            for index in events.indices {
                events[index].shape = .documented
                events[index].identity.laravelUserID = ada
            }
            for verdict in try await bench.write(events) {
                guard case .stored = verdict else {
                    Issue.record("\(String(describing: verdict))")
                    continue
                }
            }
            let flags = try await bench.text(
                "SELECT string_agg(DISTINCT concat(user_id, flags, key_hash), ' ') FROM metering.events")
            #expect(flags == "\(ada){attributed_by_id}")
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(ada)") == claims.count)
            // A user who is found by what the event states needs no flag.
            var known = UsageEvent.sample(50, by: .key("cf_ada"), at: StorageBench.noon)
            (known.shape, known.identity.laravelUserID) = (.documented, ada)
            var numbered = UsageEvent.sample(51, by: .number(ada), at: StorageBench.noon)
            (numbered.shape, numbered.identity.laravelUserID) = (.documented, ada)
            _ = try await bench.write([known, numbered])
            #expect(try await bench.number("SELECT count(*) FROM metering.events WHERE flags IS NULL") == 2)
        }
    }

    @Test func aKeyOfAnotherUserNeverFallsBack() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser(key: "cf_ada")
            let bob = try await bench.makeUser(key: "cf_old")
            _ = try await bench.write([.sample(100, by: .key("cf_old"), at: StorageBench.noon)])
            bench.clock.advance(by: .seconds(60))
            try await bench.execute("UPDATE public.users SET api_key = 'cf_new' WHERE id = \(bob)")
            let later = StorageBench.noon.advanced(by: .seconds(120))
            func verdict(_ claim: IdentityClaim, _ laravelUserID: Int64?, _ id: UInt64) async throws -> Verdict? {
                var event = UsageEvent.sample(id, by: claim, at: later)
                (event.shape, event.identity.laravelUserID) = (.documented, laravelUserID)
                return try await bench.write([event])[0]
            }
            for (index, claim) in [IdentityClaim.key("cf_new"), .key("cf_old"), .number(bob)].enumerated() {
                #expect(try await verdict(claim, ada, UInt64(index)) == .quarantined(.identityConflict))
            }
            #expect(try await verdict(.key("cf_eve"), ada + 1_000, 3) == .quarantined(.unknownUser))
            #expect(try await verdict(.key("cf_eve"), nil, 4) == .quarantined(.unknownKey))
            // A user's former key still names that user.
            guard case .stored = try await verdict(.key("cf_old"), bob, 5) else {
                Issue.record("not stored")
                return
            }
            // An event of LiteLLM never falls back.
            var event = UsageEvent.sample(6, by: .key("cf_eve"), at: later)
            event.identity.laravelUserID = ada
            #expect(try await bench.write([event]) == [.quarantined(.unknownKey)])
        }
    }

    @Test func aQuarantinedEventFallsBackWhenItsUserAppears() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser()
            let next = ada + 1
            var event = UsageEvent.sample(1, by: .key("cf_eve"), at: StorageBench.noon)
            (event.shape, event.identity.laravelUserID) = (.documented, next)
            var numbered = UsageEvent.sample(2, by: .number(next + 1_000), at: StorageBench.noon)
            (numbered.shape, numbered.identity.laravelUserID) = (.documented, next)
            #expect(
                try await bench.write([event, numbered])
                    == [.quarantined(.unknownUser), .quarantined(.unknownUser)])
            #expect(try await bench.makeUser() == next)
            #expect(try await bench.heal() == 2)
            let flags = try await bench.text(
                "SELECT string_agg(concat(user_id, flags), ' ') FROM metering.events")
            #expect(flags == "\(next){attributed_by_id} \(next){attributed_by_id}")
        }
    }

    @Test func identitiesThatDisagreeAreAConflict() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser(key: "cf_ada")
            let bob = try await bench.makeUser(key: "cf_bob")
            let claims = [
                IdentityClaim(keyHashes: [KeyHash(of: "cf_ada")], laravelUserID: bob),
                IdentityClaim(keyHashes: [KeyHash(of: "cf_ada")], userID: bob),
                IdentityClaim(laravelUserID: ada, userID: bob),
            ]
            let events = claims.enumerated().map { UsageEvent.sample(UInt64($0), by: $1, at: StorageBench.noon) }
            let verdicts = try await bench.write(events)
            #expect(verdicts == Array(repeating: .quarantined(.identityConflict), count: 3))
        }
    }

    @Test func aDocumentedNumberIsAKeyFirstAndAnIDSecond() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser()
            let bob = try await bench.makeUser(key: "\(ada)")
            let claim = IdentityClaim(
                keyHashes: [KeyHash(of: "\(ada)")], isKeyOptional: true, userID: ada, presentedKey: "\(ada)")
            _ = try await bench.write([.sample(1, by: claim, at: StorageBench.noon)])
            #expect(try await bench.number("SELECT user_id FROM api_logs") == Int(bob))
            let other = IdentityClaim(
                keyHashes: [KeyHash(of: "\(bob)")], isKeyOptional: true, userID: bob, presentedKey: "\(bob)")
            _ = try await bench.write([.sample(2, by: other, at: StorageBench.noon)])
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(bob)") == 2)
        }
    }

    @Test func aKeyCreatedASecondAgoWorksByItsHashToo() async throws {
        try await StorageBench.with { bench in
            // A key sync that finds nothing new.
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_nobody"), at: StorageBench.noon)])
            try await bench.makeUser(key: "cf_new")
            // Key syncs take at most a twentieth of the time, and on a busy machine one may be slow.
            bench.clock.advance(by: .seconds(20))
            guard case .stored = try await bench.write([.sample(2, by: .hash(of: "cf_new"), at: StorageBench.noon)])[0]
            else {
                Issue.record("not stored")
                return
            }
        }
    }

    @Test func aKeyInClearWorksAtOnceHoweverManyAreUnknown() async throws {
        try await StorageBench.with { bench in
            _ = try await bench.write([.sample(1, by: .hash(of: "cf_nobody"), at: StorageBench.noon)])
            try await bench.makeUser(key: "cf_new")
            guard case .stored = try await bench.write([.sample(2, by: .key("cf_new"), at: StorageBench.noon)])[0]
            else {
                Issue.record("not stored")
                return
            }
        }
    }

    @Test func aReplacedKeyStillFindsItsUserForCallsMadeBefore() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_old")
            _ = try await bench.write([.sample(1, by: .key("cf_old"), at: StorageBench.noon)])
            bench.clock.advance(by: .seconds(60))
            try await bench.execute("UPDATE public.users SET api_key = 'cf_new' WHERE id = \(user)")
            let (before, after) = (
                StorageBench.noon.advanced(by: .seconds(30)), StorageBench.noon.advanced(by: .seconds(90))
            )
            let verdicts = try await bench.write([
                .sample(2, by: .hash(of: "cf_new"), at: before), .sample(3, by: .hash(of: "cf_old"), at: before),
                .sample(4, by: .hash(of: "cf_old"), at: after),
            ])
            #expect(verdicts[2] == .quarantined(.unknownKey))
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == 3)
        }
    }

    @Test func aKeyThatMovedBelongsToEachHolderInTurn() async throws {
        try await StorageBench.with { bench in
            let ada = try await bench.makeUser(key: "cf_shared")
            let bob = try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .key("cf_shared"), at: StorageBench.noon)])
            bench.clock.advance(by: .seconds(60))
            try await bench.execute("UPDATE public.users SET api_key = NULL WHERE id = \(ada)")
            try await bench.execute("UPDATE public.users SET api_key = 'cf_shared' WHERE id = \(bob)")
            _ = try await bench.write([
                .sample(2, by: .hash(of: "cf_shared"), at: StorageBench.noon),
                .sample(3, by: .hash(of: "cf_shared"), at: StorageBench.noon.advanced(by: .seconds(61))),
            ])
            let owners = try await bench.text(
                "SELECT string_agg(user_id::text, ' ' ORDER BY event_key) FROM metering.events")
            #expect(owners == "\(ada) \(ada) \(bob)")
        }
    }

    @Test func manyWritersDuringTheFirstKeySyncKnowEveryKey() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO users (name, email, password, api_key)
                SELECT 'x', g::text, 'x', 'cf_' || g FROM generate_series(1, 2000) g
                """)
            try await withThrowingTaskGroup(of: [Verdict?].self) { group in
                for index in 1...8 {
                    group.addTask {
                        try await bench.write([
                            .sample(UInt64(index), by: .hash(of: "cf_\(index)"), at: StorageBench.noon)
                        ])
                    }
                }
                for try await verdicts in group {
                    if case .quarantined(let reason) = verdicts[0] { Issue.record("\(reason)") }
                }
            }
        }
    }

    @Test func keysInClearAndNumbersCostNoScan() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let number = IdentityClaim(
                keyHashes: [KeyHash(of: "\(user)")], isKeyOptional: true, userID: user, presentedKey: "\(user)")
            _ = try await bench.write([.sample(0, by: number, at: StorageBench.noon)])
            let before = try await bench.text("SELECT max(seen_at) FROM metering.api_keys")
            // Only a key sync would find this key, so it shows whether one ran.
            try await bench.makeUser(key: "cf_unseen")
            bench.clock.advance(by: .seconds(60))
            _ = try await bench.write([
                .sample(1, by: number, at: StorageBench.noon),
                .sample(2, by: .key("cf_unknown"), at: StorageBench.noon),
            ])
            #expect(try await bench.text("SELECT max(seen_at) FROM metering.api_keys") == before)
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = \(user)") == 2)
        }
    }

    @Test func aFloodOfUnknownKeysCostsOneScanASecond() async throws {
        try await StorageBench.with { bench in
            try await bench.makeUser(key: "cf_ada")
            // A table of one page is scanned by every plan.
            try await bench.execute(
                """
                INSERT INTO public.users (name, email, password)
                SELECT 'x', 'x' || g, 'x' FROM generate_series(1, 5000) g
                """)
            try await bench.execute("ANALYZE public.users")
            let before = try await bench.scansOfUsers()
            for round in 0..<20 {
                let events = (0..<50).map { index in
                    UsageEvent.sample(
                        UInt64(round * 50 + index), by: .hash(of: "cf_unknown\(round).\(index)"), at: StorageBench.noon
                    )
                }
                _ = try await bench.write(events)
            }
            #expect(try await bench.scansOfUsers() - before <= 4)
            #expect(try await bench.number("SELECT count(*) FROM metering.api_keys") == 1)
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

extension StorageBench {
    /// Sequential scans of `users` so far, flushed from this session's counters.
    fileprivate func scansOfUsers() async throws -> Int {
        try await execute("SELECT pg_stat_force_next_flush()")
        return try await number("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'users'")
    }
}
