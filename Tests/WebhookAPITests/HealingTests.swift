import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Events whose user does not exist yet, over real processes and sockets.
@Suite(.timeLimit(.minutes(30))) struct HealingTests {
    private static let key = "cf_" + String(repeating: "5", count: 64)
    /// The first moment of the current month, in UTC.
    private static let month: Date = {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        return calendar.dateInterval(of: .month, for: .now)?.start ?? .distantPast
    }()

    /// 100 events a body, half of them in the last second of the former month, half named by the key in clear.
    private func bodies(_ count: Int) -> [String] {
        let hash = KeyHash(of: Self.key).hex
        return (0..<count).map { body in
            let events = (0..<100).map { index in
                litellmEvent(
                    body * 100 + index, key: index % 4 < 2 ? Self.key : hash,
                    startedAt: index % 2 == 0 ? Self.month.addingTimeInterval(-0.25) : Self.month)
            }
            return "[\(events.joined(separator: ","))]"
        }
    }

    private func send(_ bodies: [String], to webhooks: [RunningWebhook], expecting word: String? = nil) async throws {
        try await withThrowingTaskGroup(of: RunningWebhook.Answer.self) { group in
            for (index, body) in bodies.enumerated() {
                group.addTask { try await webhooks[index % webhooks.count].post(body) }
            }
            for try await answer in group {
                #expect(answer.status == 200)
                if let word { #expect(answer.body.contains(word)) }
            }
        }
    }

    /// As Laravel makes a user.
    private func makeUser(_ database: TestDatabase) async throws {
        try await database.execute(
            """
            INSERT INTO users (name, email, password, api_key, plan, status, created_at, updated_at)
            VALUES ('Ada', 'ada@example.com', 'x', \(Self.key), 'pro', 'active', now(), now())
            """)
    }

    /// Half of the events in each month, each once, as rows and in the counters, and nothing left in quarantine.
    private func expectExactlyOnce(_ count: Int, _ database: TestDatabase) async throws {
        let month = Int64(Self.month.timeIntervalSince1970)
        let rows = try await database.text(
            """
            SELECT concat(count(*), ' ',
                              count(*) FILTER (WHERE created_at = to_timestamp(\(month)) AT TIME ZONE 'UTC'), ' ',
                count(*) FILTER (WHERE created_at = to_timestamp(\(month - 1)) AT TIME ZONE 'UTC')) FROM api_logs
            """)
        #expect(rows == "\(count) \(count / 2) \(count / 2)")
        let windows: Query = """
            SELECT count(*) FROM metering.quota_usage q
            WHERE q.requests = \(count / 2) AND q.tokens = \(count / 2 * 150) AND q.window_start IN (
                (to_timestamp(\(month)) AT TIME ZONE 'UTC')::date,
                    (to_timestamp(\(month - 1)) AT TIME ZONE 'UTC')::date,
                date_trunc('month', to_timestamp(\(month - 1)) AT TIME ZONE 'UTC')::date)
            """
        #expect(try await database.number(windows, becoming: 4, within: .seconds(10)) == 4)
        #expect(try await database.number("SELECT count(*) FROM metering.quota_usage") == 4)
        let resolved = "SELECT count(*) FROM metering.quarantine WHERE resolution IN ('stored', 'duplicate')" as Query
        #expect(try await database.number(resolved) == count)
    }

    @Test func aThousandEventsAreRowsWithinSecondsOfTheirUser() async throws {
        try await withTestDatabase { database in
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                try await send(bodies(10), to: [webhook], expecting: #""quarantined":100"#)
                try await database.execute("VACUUM ANALYZE metering.quarantine")
                try await makeUser(database)
                let start = ContinuousClock.now
                let rows = try await database.number(
                    "SELECT count(*) FROM api_logs", becoming: 1_000, within: .seconds(30))
                let took = ContinuousClock.now - start
                print("1,000 quarantined events were rows \(took) after their user")
                #expect(rows == 1_000)
                // A debug build beside other tests; a service alone takes two seconds or three.
                #expect(took < .seconds(10))
                try await expectExactlyOnce(1_000, database)
                #expect(
                    try await webhook.get("/metrics").body.contains("metering_quarantine_open{reason=\"unknown_key\"}"))
            }
        }
    }

    @Test func twoProcessesHealWhileTheSenderRepeatsItself() async throws {
        try await withTestDatabase { database in
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { first in
                try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { second in
                    let bodies = bodies(10)
                    try await send(bodies, to: [first, second])
                    try await makeUser(database)
                    // Half of it again and again, until all are rows.
                    let rows: Query = "SELECT count(*) FROM api_logs"
                    let end = ContinuousClock.now + .seconds(30)
                    repeat {
                        try await send(Array(bodies.prefix(5)), to: [second, first])
                    } while try await database.number(rows) < 1_000 && ContinuousClock.now < end
                    try await expectExactlyOnce(1_000, database)
                }
            }
            let deadlocks = try await database.number(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            #expect(deadlocks == 0)
        }
    }

    @Test func aServiceKilledInTheMiddleLeavesTheRestToTheNext() async throws {
        try await withTestDatabase { database in
            let webhook = try await RunningWebhook(databaseURL: database.url(as: .webhook))
            try await send(bodies(30), to: [webhook])
            try await makeUser(database)
            let rows: Query = "SELECT least(count(*), 1) FROM api_logs"
            #expect(try await database.number(rows, becoming: 1, within: .seconds(30)) == 1)
            webhook.process.kill()
            try await webhook.process.waitForExit()
            let healed = try await database.number("SELECT count(*) FROM api_logs")
            print("\(healed) of 3000 were rows when the service was killed")
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { _ in
                let all: Query = "SELECT count(*) FROM api_logs"
                #expect(try await database.number(all, becoming: 3_000, within: .seconds(30)) == 3_000)
                try await expectExactlyOnce(3_000, database)
            }
        }
    }
}
