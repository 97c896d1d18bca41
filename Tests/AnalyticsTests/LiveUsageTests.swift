import Domain
import Postgres
import Storage
import TestSupport
import Testing

@testable import Analytics

/// Usage that grows with each new log equals the report of the same range.
@Suite(.timeLimit(.minutes(30))) struct LiveUsageTests {
    /// What a reader holds, and the report at the same moment.
    private struct Moment: Sendable {
        var tail: LogTail
        var live: [Int64?: LiveUsage]
        var reports: [Int64?: [UsageSummary.Period]]
    }

    private func step(_ former: Moment?, _ users: [Int64], _ zone: String, _ bench: StorageBench) async throws -> Moment
    {
        let now = bench.clock.now
        return try await bench.admin.withConnection { connection in
            let zone = try TimeZoneName.require(zone, connection)
            return try ReportSnapshot.take(connection) { snapshot in
                let periods = try LivePeriods.read(zone, now: now, connection)
                var moment: Moment
                if let former {
                    moment = former
                    let step = try moment.tail.advance(on: snapshot)
                    for growth in try LiveUsage.growth(by: step.entries, of: nil, on: snapshot) {
                        moment.live[growth.user]?.add(growth)
                        if !growth.isSelfReported { moment.live[nil]?.add(growth) }
                    }
                } else {
                    moment = Moment(
                        tail: try .begin(on: snapshot),
                        live: try LiveUsage.read(users, periods, on: snapshot).merging(
                            try LiveUsage.read(nil, periods, on: snapshot)
                        ) { $1 }, reports: [:])
                }
                for user in users.map({ $0 as Int64? }) + [nil] {
                    moment.reports[user] = try [periods.day, periods.month].map {
                        try UsageSummary.read(UsageScope(user: user), $0, on: snapshot).current
                    }
                }
                return moment
            }
        }
    }

    private func check(_ moment: Moment) {
        for (user, report) in moment.reports {
            let live = moment.live[user]
            #expect(live?.today.sums == report[0].sums && live?.today.latency == report[0].latency)
            #expect(live?.month.sums == report[1].sums && live?.month.latency == report[1].latency)
        }
    }

    @Test(arguments: ["UTC", "Europe/Istanbul", "Pacific/Kiritimati", "Asia/Kathmandu"])
    func itEqualsTheReport(zone: String) async throws {
        try await StorageBench.with { bench in
            let users = [try await bench.makeUser(), try await bench.makeUser()]
            var number = 0
            func write(_ count: Int) async throws {
                let events = (0..<count).map { _ in
                    number += 1
                    var event = UsageEvent.sample(
                        UInt64(number), by: .user(users[number % 2]),
                        at: StorageBench.noon.advanced(by: .seconds(-number * 3_700)))
                    event.durationMilliseconds = Int64(number * number)
                    event.status = [.success, .error, .rateLimited][number % 3]
                    if number % 5 == 0 { event.flags.append(.selfReported) }
                    return event
                }
                for verdict in try await bench.write(events) { #expect(verdict != nil) }
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          status, created_at)
                    SELECT \(users[0]), 'm', \(number), 7, 0.5, i * 100, 'success',
                           '2026-11-23 11:00:00'::timestamp - i * interval '7 hours'
                    FROM generate_series(1, 4) i
                    """)
            }
            try await write(60)
            var moment = try await step(nil, users, zone, bench)
            check(moment)
            #expect(moment.reports[nil]?[0].sums.requests ?? 0 > 0)
            for _ in 0..<3 {
                try await write(20)
                moment = try await step(moment, users, zone, bench)
                check(moment)
            }
            // A pass of the worker moves logs from the pending ones into the rollups.
            let now = bench.clock.now
            _ = try await RollupPass(pool: bench.worker, now: { now }).run()
            try await write(20)
            moment = try await step(moment, users, zone, bench)
            check(moment)
            check(try await step(nil, users, zone, bench))
        }
    }

    @Test func theDayIsTheOneThatHasBegun() async throws {
        try await StorageBench.with { bench in
            try await bench.admin.withConnection { connection in
                // In Havana 1:00 is followed by 0:00: the day of the first midnight goes on.
                let zone = try TimeZoneName.require("America/Havana", connection)
                for (moment, from, to) in [
                    ("2026-11-01T04:30:00Z", "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"),
                    ("2026-11-01T05:30:00Z", "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"),
                ] {
                    let now = try #require(Timestamp(rfc3339: moment))
                    let periods = try LivePeriods.read(zone, now: now, connection)
                    #expect(periods.day.from.rfc3339 == from && periods.day.to.rfc3339 == to)
                    #expect(periods.month.from.rfc3339 == "2026-11-01T04:00:00.000Z")
                    #expect(periods.month.to.rfc3339 == "2026-12-01T05:00:00.000Z")
                }
            }
        }
    }
}
