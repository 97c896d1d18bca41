import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The quarantine for operators.
@Suite(.timeLimit(.minutes(30))) struct QuarantineOperatorTests {
    /// Entries of several reasons: two of an unknown key, one answered 404, one implausible, one of an unknown user.
    private func fill(_ bench: StorageBench) async throws {
        let events = (1...2).map { UsageEvent.sample($0, by: .hash(of: "cf_late"), at: StorageBench.noon) }
        _ = try await bench.write(events)
        bench.clock.advance(by: .seconds(1))
        var refused = UsageEvent.sample(3, by: .key("cf_late"), at: StorageBench.noon)
        refused.isIdempotent = false
        let costly = UsageEvent.sample(4, by: .hash(of: "cf_other"), at: StorageBench.noon)
        _ = try await bench.writer.write(
            [
                IngestItem(.success(refused), isRefusedWhenUnknown: true),
                IngestItem(
                    .failure(Rejection(reason: .implausibleCost, detail: "why", key: costly.key, event: costly))),
                IngestItem(.success(.sample(5, by: .user(77), at: StorageBench.noon))),
            ], lockedUsers: .quarantine)
    }

    private func list(
        _ filter: QuarantineFilter, after: EventKey? = nil, limit: Int = 100, _ bench: StorageBench
    ) async throws -> [UInt64] {
        try await bench.operator.withConnection { try Quarantine.list(filter, after: after, limit: limit, $0) }.map(
            \.id.low)
    }

    @Test func filtersAndPagesAreStable() async throws {
        try await StorageBench.with { bench in
            try await fill(bench)
            let late = try #require(HexPrefix(String(KeyHash(of: "cf_late").hex.prefix(7))))
            let second = StorageBench.noon.advanced(by: .seconds(1))
            let cases: [(QuarantineFilter, [UInt64])] = [
                (QuarantineFilter(), [1, 2, 3, 4, 5]), (QuarantineFilter(state: .resolved), []),
                (QuarantineFilter(reasons: [.unknownKey]), [1, 2, 3]),
                (QuarantineFilter(reasons: [.implausibleCost, .unknownUser]), [4, 5]),
                (QuarantineFilter(userID: 77), [5]), (QuarantineFilter(keyHash: late), [1, 2, 3]),
                (QuarantineFilter(model: "gpt-5"), []), (QuarantineFilter(from: second), [3, 4, 5]),
                (QuarantineFilter(reasons: [.unknownKey], to: second), [1, 2]),
            ]
            for (filter, expected) in cases { #expect(try await list(filter, bench) == expected, "\(filter)") }
            var paged: [UInt64] = []
            var cursor: EventKey?
            repeat {
                let page = try await bench.operator.withConnection { [cursor] in
                    try Quarantine.list(QuarantineFilter(), after: cursor, limit: 2, $0)
                }
                paged += page.map(\.id.low)
                cursor = page.last?.id
            } while cursor != nil
            #expect(paged == [1, 2, 3, 4, 5])
            let summaries = try await bench.operator.withConnection {
                try Quarantine.summarize(QuarantineFilter(), $0)
            }
            #expect(summaries.map(\.entries) == [3, 1, 1])
            #expect(summaries[0].reason == .unknownKey)
        }
    }

    @Test func aDryRunReportsTheVerdictsAndChangesNothing() async throws {
        try await StorageBench.with { bench in
            try await fill(bench)
            // Laravel made the user, and no key sync ran since.
            try await bench.makeUser(key: "cf_late")
            let before = try await bench.everything()
            let options = QuarantineReplay.Options(includesRefused: true, isDryRun: true)
            let dry = try await bench.replay.replay(QuarantineFilter(), options: options)
            #expect(try await bench.everything() == before)
            let outcomes = dry.outcomes.map(\.outcome)
            #expect(outcomes[3...] == [.neverARow, .verdict(.quarantined(.unknownUser))])
            #expect(outcomes[..<3].allSatisfy { if case .verdict(.stored) = $0 { true } else { false } })

            let wet = try await bench.replay.replay(QuarantineFilter(), options: .init())
            #expect(wet.outcomes[2].outcome == .wasRefused)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 2)
            let forced = try await bench.replay.replay(
                QuarantineFilter(reasons: [.unknownKey]), options: .init(includesRefused: true))
            #expect(forced.outcomes.count == 1)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 3)
            let again = try await bench.replay.replay(
                QuarantineFilter(state: .all, ids: forced.outcomes.map(\.item.id)),
                options: .init(includesRefused: true))
            #expect(again.outcomes.map(\.outcome) == [.resolvedBefore])
        }
    }

    @Test func aConflictOfIdentitiesIsReplayedOnceItIsCorrected() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(key: "cf_ada"), try await bench.makeUser())
            var claim = IdentityClaim.hash(of: "cf_ada")
            claim.laravelUserID = bob
            #expect(
                try await bench.write([.sample(1, by: claim, at: StorageBench.noon)]) == [
                    .quarantined(.identityConflict)
                ])
            let stays = try await bench.replay.replay(QuarantineFilter(), options: .init())
            #expect(stays.outcomes.map(\.outcome) == [.verdict(.quarantined(.identityConflict))])
            try await bench.execute("UPDATE metering.api_keys SET user_id = \(bob)")
            try await bench.execute("UPDATE public.users SET api_key = NULL WHERE id = \(ada)")
            try await bench.execute("UPDATE public.users SET api_key = 'cf_ada' WHERE id = \(bob)")
            #expect(try await bench.replay.replay() == 0)
            _ = try await bench.replay.replay(QuarantineFilter(), options: .init())
            #expect(try await bench.number("SELECT user_id FROM public.api_logs") == Int(bob))
        }
    }

    @Test func aDiscardResolvesOnlyOpenEntriesOfItsFilter() async throws {
        try await StorageBench.with { bench in
            try await fill(bench)
            let now = bench.clock.now
            let filter = QuarantineFilter(reasons: [.unknownKey])
            let counts = try await bench.operator.withConnection { connection in
                try (0..<2).map { _ in try Quarantine.discard(filter, connection, now: now) }
            }
            #expect(counts == [3, 0])
            #expect(try await list(QuarantineFilter(), bench) == [4, 5])
            #expect(try await list(QuarantineFilter(state: .resolved), bench) == [1, 2, 3])
            try await bench.makeUser(key: "cf_late")
            #expect(try await bench.heal() == 0)
        }
    }
}

extension StorageBench {
    /// A digest of every row of every table.
    fileprivate func everything() async throws -> [String: String] {
        try await pool.withConnection { connection in
            let tables = try connection.query(
                """
                SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
                WHERE schemaname IN ('public', 'metering')
                """
            ).map { try $0.decode(0, as: String.self) }
            return try tables.reduce(into: [:]) { digests, table in
                digests[table] = try connection.query(
                    "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM \(unsafeSQL: table) t")[0]
                    .decode(0, as: String.self)
            }
        }
    }
}
