import Analytics
import Domain
import Foundation
import Logging
import Postgres
import Storage
import TestSupport

/// A random sequence of what happens to the tables, one step after the other, beside workers that go on by themselves.
struct UsageStory: Queryable {
    /// The `application_name` of workers, by which they are killed.
    static let worker = "worker of the story"

    let pool: ConnectionPool
    private let database: TestDatabase
    let clock = StorageBench.ManualClock()
    private(set) var steps = 0
    private(set) var reads = 0
    /// Reads that were not as the model has it.
    private(set) var mismatches: [String] = []

    private let writer: EventWriter
    private var random: SplitMix64
    private var model = UsageModel()
    private var users: [Int64] = []
    private var open: [(transaction: SlowTransaction, logs: [UsageModel.Log])] = []
    private var nextEvent: UInt64 = 0

    init(_ database: TestDatabase, pool: ConnectionPool, seed: UInt64) {
        self.database = database
        self.pool = pool
        random = SplitMix64(seed: seed)
        let clock = clock
        writer = EventWriter(pool: database.pool(as: .webhook), now: { clock.now })
    }

    mutating func play(until end: ContinuousClock.Instant) async throws {
        for _ in 0..<6 { try await makeUser() }
        // On a busy machine it takes longer rather than proving nothing.
        while ContinuousClock.now < end || reads < 25 { try await step() }
    }

    private mutating func step() async throws {
        steps += 1
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<30: try await ingest()
        case 30..<50: try await insertAsLaravel()
        case 50..<58: try await beginSlowly()
        case 58..<68: try await endSlowly()
        case 68..<71: try await deleteUser()
        case 71..<75: try await killWorkers()
        case 75..<77: try await withdraw()
        case 77..<78: clock.advance(by: .seconds(1817))
        case 78..<88: try await askReports(of: (users + [0]).randomElement(using: &random) ?? 0)
        default: try await read(of: (users + [0]).randomElement(using: &random) ?? 0)
        }
    }

    /// Ends what is open, runs a pass, and reads everything once more.
    mutating func end() async throws {
        while !open.isEmpty { try await endSlowly() }
        let bench = StorageBench(database: database, clock: clock, writer: writer)
        try await bench.rollUp()
        for user in users + [0] {
            try await read(of: user)
            try await askReports(of: user)
        }
        let days = try await bench.daysDifferences()
        if days > 0 { mismatches.append("\(days) cells of days") }
        try await bench.updateCounters()
        mismatches += try await bench.verify().findings.map { "\($0)" }
        for user in users { try await readCounters(of: user) }
    }

    private mutating func makeUser() async throws {
        let bench = StorageBench(database: database, clock: clock, writer: writer)
        let plan = ["starter", "pro"].randomElement(using: &random) ?? "pro"
        let user = try await bench.makeUser(plan: plan)
        users.append(user)
        model.plans[user] = plan
    }

    private mutating func moment() -> Timestamp {
        // Mostly now, sometimes weeks ago: sent again by the proxy, or imported.
        let age = random.next() % 5 == 0 ? Int64.random(in: 0...(86_400 * 40), using: &random) : Int64(0)
        return clock.now.advanced(by: .seconds(-age - 1))
    }

    private mutating func ingest() async throws {
        let new = (0..<Int.random(in: 1...8, using: &random)).map { _ in event() }
        let verdicts = try await writer.write(
            new.map { IngestItem(.success($0.event)) }, lockedUsers: .quarantine)
        for ((event, picodollars), verdict) in zip(new, verdicts) {
            guard case .stored(let id)? = verdict, let user = event.identity.userID else { continue }
            model.commit(.init(event, id: id, user: user, plan: model.plans[user], picodollars: picodollars))
        }
    }

    /// An event with any values, and its cost.
    private mutating func event() -> (event: UsageEvent, picodollars: Int128?) {
        nextEvent += 1
        var event = UsageEvent.sample(nextEvent, by: .user(users.randomElement(using: &random) ?? 1), at: moment())
        event.modelGroup = Self.models.randomElement(using: &random) ?? "gpt-4"
        event.provider = ["openai", "anthropic", nil].randomElement(using: &random) ?? nil
        event.status = status()
        event.inputTokens = count()
        event.outputTokens = count()
        event.cachedTokens = Int64.random(in: 0...event.inputTokens, using: &random)
        event.reasoningTokens = Int64.random(in: 0...event.outputTokens, using: &random)
        event.durationMilliseconds = isOneOf(6) ? nil : duration()
        event.isStream = isOneOf(3)
        if event.isStream { event.timeToFirstTokenMilliseconds = duration() }
        event.isCacheHit = isOneOf(8)
        if event.status != .success { event.errorCode = ["500", "timeout", "429"].randomElement(using: &random) }
        event.endUser = isOneOf(2) ? ["ada", "bob"].randomElement(using: &random) : nil
        // A tag may come twice.
        event.tags = (0..<Int.random(in: 0...2, using: &random)).map { _ in isOneOf(2) ? "batch" : "chat" }
        if isOneOf(8) { event.flags = [.selfReported] }
        let picodollars = cost()
        event.cost = picodollars.flatMap { DecimalLiteral("\($0)e-12") }.flatMap(Cost.init)
        return (event, picodollars)
    }

    private static let models = ["gpt-4", "claude", "gemini"]

    private mutating func isOneOf(_ cases: Int) -> Bool { Int.random(in: 0..<cases, using: &random) == 0 }

    private mutating func status() -> EventStatus {
        isOneOf(5) ? EventStatus.allCases.randomElement(using: &random) ?? .error : .success
    }

    private mutating func count() -> Int64 { isOneOf(7) ? 0 : Int64.random(in: 1...1000, using: &random) }

    /// From 0 to some minutes, all magnitudes alike.
    private mutating func duration() -> Int64 {
        Int64.random(in: 0...(1 << Int64.random(in: 0...18, using: &random)), using: &random)
    }

    /// 10^-12 USD: not stated, zero, small, half of Laravel's last decimal, or more than its column holds.
    private mutating func cost() -> Int128? {
        switch Int.random(in: 0..<20, using: &random) {
        case 0: nil
        case 1, 2: 0
        case 3: Int128.random(in: 0...99, using: &random) * 1_000_000 + 500_000
        case 4: 12_345_000_000_000_000
        default: Int128.random(in: 1...2_000_000_000, using: &random)
        }
    }

    /// An operator takes one back, whatever the workers do; it does not come again.
    private mutating func withdraw() async throws {
        guard let log = model.logs.filter({ $0.event != nil }).randomElement(using: &random), let event = log.event
        else { return }
        let now = clock.now
        _ = try await database.pool(as: .operator).transaction {
            try EventWithdrawal.withdraw(.key(event.key), reason: nil, $0, now: now)
        }
        model.withdraw(log.id)
        let again = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
        if again != [.duplicate(logID: log.id)] { mismatches.append("step \(steps): sent again it is \(again)") }
        try await read(of: log.user)
    }

    /// A row as Laravel writes it, in whole seconds; one in twenty has no number as its cost.
    private mutating func log() -> UsageModel.Log {
        let second = Timestamp(microseconds: moment().microseconds / 1_000_000 * 1_000_000)
        return UsageModel.Log(
            user: users.randomElement(using: &random) ?? 1, at: second,
            model: Self.models.randomElement(using: &random) ?? "gpt-4", status: status(), inputTokens: count(),
            outputTokens: count(), duration: duration(),
            microdollars: isOneOf(20) ? nil : Int128.random(in: 0...9_999_999, using: &random))
    }

    private mutating func insertAsLaravel() async throws {
        var log = log()
        log.id = try await pool.withConnection { [log] in try log.insert($0) }
        model.commit(log)
    }

    private mutating func beginSlowly() async throws {
        guard open.count < 3 else { return }
        let logs = (0..<Int.random(in: 1...3, using: &random)).map { _ in log() }
        open.append(
            (try await SlowTransaction(pool) { connection in try logs.map { try $0.insert(connection) } }, logs))
    }

    private mutating func endSlowly() async throws {
        guard let index = open.indices.randomElement(using: &random) else { return }
        let (transaction, logs) = open.remove(at: index)
        let commits = random.next() % 3 > 0
        let ids = try await transaction.end(commits: commits)
        guard commits else { return }
        for (id, log) in zip(ids, logs) {
            var log = log
            log.id = id
            model.commit(log)
        }
    }

    private mutating func deleteUser() async throws {
        // Not one whose row an open transaction holds: the deletion would wait for ever.
        let held = Set(open.flatMap { $0.logs.map(\.user) })
        guard let user = users.filter({ !held.contains($0) }).randomElement(using: &random) else { return }
        let watermark = try await pool.transaction { connection in
            let watermark = try connection.query("SELECT other_log_id FROM metering.rollup_watermark FOR UPDATE")[0]
                .decode(0, as: Int64.self)
            try connection.execute("DELETE FROM public.users WHERE id = \(user)")
            return watermark
        }
        model.delete(user, laravelWatermark: watermark)
        try await read(of: user)
        users.removeAll { $0 == user }
        try await makeUser()
    }

    private func killWorkers() async throws {
        try await execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = \(Self.worker) AND datname = current_database()
            """
        )
    }

    private mutating func read(of user: Int64) async throws {
        reads += 1
        let (found, expected) = (try await usageLines(of: user), model.usage(of: user))
        if found != expected { mismatches.append("step \(steps), user \(user): read\n\(found)\nnot\n\(expected)") }
    }

    /// Asks every report about the same days, all in one state of the database.
    private mutating func askReports(of user: Int64) async throws {
        reads += 1
        let question = UsageQuestion(of: user, now: clock.now, &random)
        let answers = try await database.pool(as: .admin).withConnection { try question.ask($0) }
        let differences = question.differences(of: answers, from: model)
        mismatches += differences.prefix(9).map { "step \(steps), \(question): \($0)" }
    }

    /// All that was counted is in the counters.
    private mutating func readCounters(of user: Int64) async throws {
        let now = clock.now
        let (firstDay, found, status) = try await pool.withConnection { connection in
            // Budgets are proved from the month on that brought them.
            let firstDay = try connection.query(
                """
                SELECT date_trunc('month', min(applied_at) AT TIME ZONE 'UTC')::date - '1970-01-01'::date
                FROM metering.schema_migrations WHERE version = 11
                """)[0].decode(0, as: Int64.self)
            let rows = try connection.query(
                """
                SELECT concat_ws(' ', period, window_start, requests, tokens,
                                 CASE WHEN window_start - '1970-01-01'::date >= \(firstDay)
                                      THEN trunc(cost * 1000000000000) ELSE 0 END)
                FROM metering.quota_usage WHERE user_id = \(user) AND (requests <> 0 OR tokens <> 0)
                """)
            return try (
                firstDay, rows.map { try $0.decode(0, as: String.self) }.sorted(),
                LimitStatus.read(user, connection, now: now)
            )
        }
        let expected = model.counters(of: user, costsSince: firstDay)
        if found != expected { mismatches.append("counters of user \(user): \(found), not \(expected)") }
        for window in status {
            let day = CalendarDate(daysSince1970: window.startedAt.microseconds / 86_400_000_000)
            let text = "\(window.period.rawValue) \(day) \(window.requests.used) \(window.tokens.used) "
            let isRight =
                window.requests.used == 0
                ? !expected.contains { $0.hasPrefix("\(window.period.rawValue) \(day) ") }
                : expected.contains { $0.hasPrefix(text) }
            if !isRight { mismatches.append("limits of user \(user): \(text), not of \(expected)") }
        }
    }

    /// The measures of a user, 0 for all users, a line for each quarter of an hour, as the rollups and the pending logs
    /// have them.
    private func usageLines(of user: Int64) async throws -> String {
        let lines = try await text(
            """
            WITH watermark AS (SELECT * FROM metering.rollup_watermark), pending AS (
                SELECT f.* FROM watermark w, metering.event_facts(w.event_log_id, 9223372036854775807) f
                UNION ALL
                SELECT f.* FROM watermark w, metering.log_facts(w.other_log_id, 9223372036854775807) f
            ), cell AS (
                SELECT quarter, requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
                       duration_ms, cost, ledger_cost
                FROM metering.rollup_15m WHERE user_id = \(user)
                UNION ALL
                SELECT metering.quarter_of(f.occurred_at), 1, (f.cost IS NULL)::integer, f.input_tokens,
                       f.output_tokens, f.cached_tokens, f.reasoning_tokens, coalesce(f.duration_ms, 0),
                       coalesce(f.cost, 0),
                       f.ledger_cost
                FROM pending f WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported
            )
            SELECT string_agg(concat_ws(' ', quarter, requests, unpriced, input, output, cached, reasoning, duration,
                                        trunc(cost * 1000000000000), trunc(laravel_cost * 1000000000000)), E'\\n'
                              ORDER BY quarter)
            FROM (SELECT quarter, sum(requests) AS requests, sum(unpriced) AS unpriced, sum(input_tokens) AS input,
                         sum(output_tokens) AS output, sum(cached_tokens) AS cached, sum(reasoning_tokens) AS reasoning,
                         sum(duration_ms) AS duration, sum(cost) AS cost, sum(ledger_cost) AS laravel_cost
                  FROM cell GROUP BY 1) x
            """)
        return lines ?? ""
    }
}

extension Logger {
    /// Says nothing: workers are killed on purpose.
    static let quiet = Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })
}
