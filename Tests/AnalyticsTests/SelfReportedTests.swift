import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Self-reported usage is its user's alone, in rollups and in what comes after them.
@Suite(.timeLimit(.minutes(30))) struct SelfReportedTests {
    @Test(arguments: [true, false]) func noSumOfAllUsersHasIt(isAlone: Bool) async throws {
        try await StorageBench.with { bench in
            let (user, other) = (try await bench.makeUser(), try await bench.makeUser())
            // Days ago, yesterday and now: longer spans, single days, and 15-minute rollups.
            let ages: [Int64] = [86_400 * 20, 86_400, 60]
            let moments = ages.map { StorageBench.noon.advanced(by: .seconds(-$0)) }
            var events = moments.enumerated().map { index, moment in
                var event = UsageEvent.sample(UInt64(index + 1), by: .user(user), at: moment)
                event.flags = [.selfReported]
                return event
            }
            if !isAlone {
                // The same model, provider, status and plan in the same quarter.
                events += moments.enumerated().flatMap { index, moment in
                    [user, other].map { .sample(UInt64(10 * index + 20) + UInt64($0), by: .user($0), at: moment) }
                }
            }
            let all = isAlone ? 0 : 6
            _ = try await bench.write(events)
            for pass in 0..<3 {
                let found = try await bench.report { snapshot in
                    let range = try ReportRange.days("2026-10-01", "2026-12-01", in: "UTC", snapshot.connection)
                    let users = try UsageBreakdown.read(.allUsers, range, by: .user, on: snapshot)
                    let codes = try EventBreakdown.read(.allUsers, range, by: .errorCode, on: snapshot)
                    return try [
                        UsageSummary.read(.allUsers, range, on: snapshot).current.sums.requests, users.total.requests,
                        users.groups.reduce(0) { $0 + $1.sums.requests }, codes.total.requests,
                        UsageSeries.read(.allUsers, range, by: .model, on: snapshot).lines.flatMap(\.sums)
                            .reduce(0) { $0 + $1.requests },
                        UsageBreakdown.read(.user(user), range, by: .model, on: snapshot).total.requests,
                        EventBreakdown.read(.user(user), range, by: .tag, on: snapshot).total.requests,
                    ].map(Int.init)
                }
                let own = 3 + all / 2
                #expect(found == [all, all, all, all, all, own, own], "after \(pass) passes")
                try await bench.rollUp()
                #expect(try await bench.verify().findings.map { "\($0)" } == [])
                bench.clock.advance(by: .seconds(3600 * 3))
            }
            #expect(
                try await bench.number("SELECT count(*) FROM metering.rollup_day WHERE user_id = \(user)") == 3 + all
                    / 2)
            // Made again from the raw rows, they are the same.
            let before = try await bench.usage(of: 0)
            try await bench.execute("UPDATE metering.rollup_15m SET requests = requests + 1")
            _ = try await RollupRebuild(pool: bench.worker).repair(RollupRange(from: 20_700, to: 20_800)) { _, _ in }
            #expect(try await bench.usage(of: 0) == before)
            #expect(try await bench.verify().count == 0)
        }
    }
}
