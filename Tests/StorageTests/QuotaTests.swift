import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Counters and their projection into Laravel's `rate_limits`.
@Suite(.timeLimit(.minutes(30))) struct QuotaTests {
    /// `period used_tokens/limit_tokens used_requests/limit_requests reset_at` of a user, a line each.
    private func rateLimits(_ bench: StorageBench, _ user: Int64) async throws -> String? {
        try await bench.text(
            """
            SELECT string_agg(concat_ws(' ', period, used_tokens || '/' || limit_tokens,
                                        used_requests || '/' || limit_requests, reset_at), E'\\n' ORDER BY period)
            FROM public.rate_limits WHERE user_id = \(user)
            """)
    }

    @Test func whatCountsAndWhatDoesNot() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(plan: "pro")
            var events = (0..<8).map { UsageEvent.sample($0, by: .user(user), at: StorageBench.noon) }
            events[1].isCacheHit = true
            events[2].status = .rateLimited
            (events[3].status, events[3].inputTokens, events[3].outputTokens) = (.error, 0, 0)
            events[3].cost = nil
            (events[4].status, events[4].inputTokens, events[4].outputTokens) = (.error, 10, 4)
            (events[5].shape, events[5].status) = (.documented, .error)
            (events[6].shape, events[6].status) = (.documented, .rateLimited)
            // Images cost money and have no tokens.
            (events[7].status, events[7].inputTokens, events[7].outputTokens) = (.error, 0, 0)
            _ = try await bench.write(events)
            try await bench.updateCounters()
            #expect(
                try await rateLimits(bench, user) == """
                    daily 314/500000 5/5000 2026-11-24 00:00:00
                    monthly 314/10000000 5/100000 2026-12-01 00:00:00
                    """)
        }
    }

    /// Since 1.109 LiteLLM's failures can carry tokens and a cost: a stream that broke off.
    @Test func aFailureThatCostCountsInQuotaBudgetAndReports() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            var cut = UsageEvent.sample(1, by: .user(user), at: StorageBench.noon, cost: "0.25")
            (cut.status, cut.errorCode, cut.flags) = (.error, "500", [.usageEstimated])
            var unknown = UsageEvent.sample(2, by: .user(user), at: StorageBench.noon, cost: "0")
            unknown.status = .error
            _ = try await bench.write([cut, unknown])
            let now = bench.clock.now
            let authorization = try await bench.service.withConnection { connection in
                try KeyHistory.sync(connection, now: now)
                return try CallAuthorization.find(KeyHash(of: "cf_ada"), connection, now: now)
            }
            #expect(authorization?.windows.map(\.cost.used.description) == ["0.25", "0.25"])
            #expect(authorization?.windows.map(\.tokens.used) == [300, 300])
            for isRolledUp in [false, true] {
                if isRolledUp { try await bench.rollUp() }
                let sums = try await bench.report { snapshot in
                    try UsageSummary.read(
                        .user(user), .days("2026-11-23", "2026-11-24", in: "UTC", snapshot.connection), on: snapshot
                    ).current.sums
                }
                #expect([sums.requests, sums.errors, sums.tokens, sums.unpriced] == [2, 2, 300, 1])
                #expect(sums.pricedCost == Money("0.25"))
            }
            let flags = try await bench.text("SELECT flags FROM metering.events WHERE cost = 0.25")
            #expect(flags == "{usage_estimated}")
            #expect(try await bench.verify().count == 0)
        }
    }

    @Test func anEventCountsInTheWindowInWhichItOccurred() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let ages: [Duration] = [.zero, .seconds(-86_400), .seconds(-86_400 * 40)]
            _ = try await bench.write(
                ages.enumerated().map {
                    .sample(UInt64($0), by: .user(user), at: StorageBench.noon.advanced(by: $1))
                })
            try await bench.updateCounters()
            let requests = try await bench.text(
                "SELECT string_agg(period || used_requests, ' ' ORDER BY period) FROM rate_limits")
            #expect(requests == "daily1 monthly2")
            let windows = try await bench.text(
                """
                SELECT string_agg(concat_ws(' ', period, window_start, requests), ',' ORDER BY period, window_start)
                FROM metering.quota_usage
                """)
            #expect(
                windows
                    == "daily 2026-10-14 1,daily 2026-11-22 1,daily 2026-11-23 1,"
                    + "monthly 2026-10-01 1,monthly 2026-11-01 2")
        }
    }

    @Test func usersNearALimitAreListedWithTheWorstFirst() async throws {
        try await StorageBench.with { bench in
            let now = StorageBench.noon
            var users: [Int64] = []
            for _ in 0..<5 { users.append(try await bench.makeUser()) }
            let suspended = try await bench.makeUser(status: "suspended")
            // Each call has 150 tokens and costs 0.25.
            let limits: [(Int64, UserLimits.Change)] = [
                (users[0], .init(tokens: .set(200))), (users[1], .init(budget: Money("0.2").map { .set($0) } ?? .keep)),
                (users[2], .init(requests: .set(1), tokens: .set(180))), (users[3], .init(requests: .set(0))),
                (users[4], .init(tokens: .set(1_000))), (suspended, .init(requests: .set(1))),
            ]
            for (user, change) in limits {
                try await bench.admin.withConnection { try UserLimits.set(change, .daily, user: user, $0) }
            }
            for (index, (user, _)) in limits.enumerated() {
                _ = try await bench.write([.sample(UInt64(index), by: .user(user), at: now, cost: "0.25")])
            }
            for isCounted in [false, true] {
                if isCounted { try await bench.updateCounters() }
                let list = try await bench.admin.withConnection { try LimitPressure.list(limit: 2, $0, now: now) }
                #expect(list.count == 3 && list.exhausted == 3)
                #expect(list.users.map(\.userID) == [users[1], users[2]])
                #expect(list.users.map(\.measure) == [.budget, .requests] && list.users.map(\.ratio) == [1.25, 1])
                #expect(list.users.allSatisfy { $0.period == .daily })
            }
        }
    }

    @Test func whatLaravelWroteIsRepaired() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.updateCounters()
            let truth = try await rateLimits(bench, user)
            // Laravel reset a row after a stale read, incremented it, and set the limits of an old plan.
            try await bench.execute(
                """
                UPDATE rate_limits SET used_tokens = 0, used_requests = used_requests + 7, limit_tokens = 1,
                                       reset_at = '2026-11-25'
                """)
            try await bench.updateCounters()
            #expect(try await rateLimits(bench, user) == truth)
        }
    }

    @Test func aNewWindowBeginsAtZero() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.updateCounters()
            bench.clock.advance(by: .seconds(86_400 * 31))
            try await bench.updateCounters()
            #expect(
                try await rateLimits(bench, user) == """
                    daily 0/100000 0/1000 2026-12-25 00:00:00
                    monthly 0/1000000 0/10000 2027-01-01 00:00:00
                    """)
        }
    }

    @Test func aUsersOwnLimitsReplaceThePlans() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                "INSERT INTO metering.user_limits VALUES (\(user), 'daily', 9000000000, 5)")
            _ = try await bench.write([.sample(1, by: .user(user), at: StorageBench.noon)])
            try await bench.updateCounters()
            let daily = try await bench.text(
                "SELECT limit_tokens || ' ' || limit_requests FROM rate_limits WHERE period = 'daily'")
            #expect(daily == "2147483647 5")
        }
    }

    @Test func aLockedRowDelaysNoOtherUser() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for id in [ada, bob] {
                _ = try await bench.write([.sample(UInt64(id), by: .user(id), at: StorageBench.noon)])
            }
            try await bench.updateCounters()
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("UPDATE rate_limits SET used_tokens = 0 WHERE user_id = \(ada)")
            }
            _ = try await bench.write([.sample(99, by: .user(bob), at: StorageBench.noon)])
            try await bench.updateCounters()
            let used: Query = "SELECT used_requests FROM rate_limits WHERE period = 'daily' AND user_id = "
            #expect(try await bench.number("\(used)\(bob)") == 2)
            try await lock.end()
            try await bench.updateCounters()
            #expect(try await bench.number("\(used)\(ada)") == 1)
        }
    }

    @Test func concurrentCallsAddEachDeltaOnce() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for index in 0..<40 {
                _ = try await bench.write([.sample(UInt64(index), by: .user(user), at: StorageBench.noon)])
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        _ = try await bench.service.withConnection {
                            try QuotaCounters.addDeltas($0, now: StorageBench.noon)
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await bench.number("SELECT requests FROM metering.quota_usage WHERE period = 'daily'") == 40)
            #expect(try await bench.number("SELECT count(*) FROM metering.quota_deltas") == 0)
        }
    }

    /// Adding deltas sets the existing rows of `rate_limits`. Only new and different rows are left to a projection.
    @Test func addingDeltasSetsRateLimits() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            _ = try await bench.write([.sample(1, by: .user(ada), at: StorageBench.noon)])
            #expect(try await addDeltas(bench) == [ada])
            try await bench.updateCounters()
            _ = try await bench.write(
                [ada, bob].map { .sample(UInt64($0) + 10, by: .user($0), at: StorageBench.noon) })
            #expect(try await addDeltas(bench) == [bob])
            #expect(
                try await rateLimits(bench, ada) == """
                    daily 300/100000 2/1000 2026-11-24 00:00:00
                    monthly 300/1000000 2/10000 2026-12-01 00:00:00
                    """)
            // The event is of yesterday. Only the row of the month changes.
            _ = try await bench.write([
                .sample(99, by: .user(ada), at: StorageBench.noon.advanced(by: .seconds(-86_400)))
            ])
            #expect(try await addDeltas(bench) == [])
            #expect(
                try await rateLimits(bench, ada) == """
                    daily 300/100000 2/1000 2026-11-24 00:00:00
                    monthly 450/1000000 3/10000 2026-12-01 00:00:00
                    """)
        }
    }

    @Test func addingDeltasDoesNotWaitForALockOfLaravel() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            for id in [ada, bob] {
                _ = try await bench.write([.sample(UInt64(id), by: .user(id), at: StorageBench.noon)])
            }
            try await bench.updateCounters()
            let lock = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute("UPDATE rate_limits SET used_tokens = 0 WHERE user_id = \(ada)")
            }
            for id in [ada, bob] {
                _ = try await bench.write([.sample(UInt64(id) + 9, by: .user(id), at: StorageBench.noon)])
            }
            #expect(try await addDeltas(bench) == [ada, bob])
            #expect(
                try await bench.number("SELECT sum(requests) FROM metering.quota_usage WHERE period = 'daily'") == 4)
            try await lock.end()
        }
    }

    private func addDeltas(_ bench: StorageBench) async throws -> [Int64] {
        try await bench.service.withConnection { try QuotaCounters.addDeltas($0, now: StorageBench.noon) }
    }
}
