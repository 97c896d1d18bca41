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
    private var open: [(transaction: SlowTransaction, rows: [UsageModel.Row])] = []
    private var nextEvent: UInt64 = 0

    init(_ database: TestDatabase, pool: ConnectionPool, seed: UInt64) {
        self.database = database
        self.pool = pool
        random = SplitMix64(seed: seed)
        let clock = clock
        writer = EventWriter(pool: database.pool(as: .webhook), now: { clock.now })
    }

    mutating func tell(until end: ContinuousClock.Instant) async throws {
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
        case 77..<78: clock.advance(by: .seconds(1800))
        case 78..<88: try await askReports(of: (users + [0]).randomElement(using: &random) ?? 0)
        default: try await read(of: (users + [0]).randomElement(using: &random) ?? 0)
        }
    }

    /// Ends what is open, folds, and looks at everything once more.
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
    }

    private mutating func makeUser() async throws {
        let bench = StorageBench(database: database, clock: clock, writer: writer)
        users.append(try await bench.makeUser(plan: ["starter", "pro"].randomElement(using: &random) ?? "pro"))
    }

    private mutating func moment() -> Timestamp {
        // Mostly now, sometimes weeks ago: sent again by the proxy, or imported.
        let age = random.next() % 5 == 0 ? Int64.random(in: 0...(86_400 * 40), using: &random) : Int64(0)
        return clock.now.advanced(by: .seconds(-age - 1))
    }

    private mutating func ingest() async throws {
        let events = (0..<Int.random(in: 1...8, using: &random)).map { _ in
            nextEvent += 1
            var event = UsageEvent.sample(nextEvent, by: .user(users.randomElement(using: &random) ?? 1), at: moment())
            (event.inputTokens, event.outputTokens) = (Int64.random(in: 0...1000, using: &random), 0)
            event.modelGroup = ["gpt-4", "claude", "gemini"].randomElement(using: &random) ?? "gpt-4"
            event.status = random.next() % 10 == 0 ? .error : .success
            let picodollars = Int64.random(in: 1...2_000_000_000, using: &random)
            event.cost = DecimalLiteral("\(picodollars)e-12").flatMap(Cost.init)
            if random.next() % 8 == 0 { event.flags = [.selfReported] }
            return event
        }
        let verdicts = try await writer.write(
            events.map { IngestItem(.success($0)) }, lockedUsers: .quarantine)
        for (event, verdict) in zip(events, verdicts) {
            guard case .stored(let id)? = verdict, let user = event.identity.userID else { continue }
            model.commit(
                .init(
                    id: id, user: user, quarter: event.occurredAt.microseconds / 900_000_000, tokens: event.inputTokens,
                    picodollars: Int64(event.cost?.picodollars ?? 0), isEvent: true,
                    isSelfReported: event.flags.contains(.selfReported), event: event))
        }
    }

    /// An operator takes one back, whatever the workers do; it does not come again.
    private mutating func withdraw() async throws {
        guard let row = model.rows.filter(\.isEvent).randomElement(using: &random), let event = row.event else {
            return
        }
        let now = clock.now
        _ = try await database.pool(as: .operator).transaction {
            try EventWithdrawal.withdraw(.key(event.key), reason: nil, $0, now: now)
        }
        model.withdraw(row.id)
        let again = try await writer.write([IngestItem(.success(event))], lockedUsers: .quarantine)
        if again != [.duplicate(logID: row.id)] { mismatches.append("step \(steps): sent again it is \(again)") }
        try await read(of: row.user)
    }

    private mutating func row() -> UsageModel.Row {
        UsageModel.Row(
            id: 0, user: users.randomElement(using: &random) ?? 1, quarter: moment().microseconds / 900_000_000,
            tokens: Int64.random(in: 0...1000, using: &random),
            picodollars: Int64.random(in: 0...9_999_999, using: &random) * 1_000_000, isEvent: false)
    }

    private mutating func insertAsLaravel() async throws {
        var row = row()
        row.id = try await pool.withConnection { [row] in try row.insert($0) }
        model.commit(row)
    }

    private mutating func beginSlowly() async throws {
        guard open.count < 3 else { return }
        let rows = (0..<Int.random(in: 1...3, using: &random)).map { _ in row() }
        open.append(
            (try await SlowTransaction(pool) { connection in try rows.map { try $0.insert(connection) } }, rows))
    }

    private mutating func endSlowly() async throws {
        guard let index = open.indices.randomElement(using: &random) else { return }
        let (transaction, rows) = open.remove(at: index)
        let commits = random.next() % 3 > 0
        let ids = try await transaction.end(commits: commits)
        guard commits else { return }
        for (id, row) in zip(ids, rows) {
            var row = row
            row.id = id
            model.commit(row)
        }
    }

    private mutating func deleteUser() async throws {
        // Not one whose row an open transaction holds: the deletion would wait for ever.
        let held = Set(open.flatMap { $0.rows.map(\.user) })
        guard let user = users.filter({ !held.contains($0) }).randomElement(using: &random) else { return }
        let folded = try await pool.transaction { connection in
            let folded = try connection.query("SELECT other_log_id FROM metering.rollup_watermark FOR UPDATE")[0]
                .decode(0, as: Int64.self)
            try connection.execute("DELETE FROM public.users WHERE id = \(user)")
            return folded
        }
        model.delete(user, foldedOthers: folded)
        try await read(of: user)
        users.removeAll { $0 == user }
        try await makeUser()
    }

    private func killWorkers() async throws {
        try await execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \(Self.worker) AND datname = current_database()"
        )
    }

    private mutating func read(of user: Int64) async throws {
        reads += 1
        let (found, expected) = (try await usageLines(of: user), model.usage(of: user))
        if found != expected { mismatches.append("step \(steps), user \(user): read\n\(found)\nnot\n\(expected)") }
    }
}

extension UsageStory {
    private static let zones = ["UTC", "Europe/Istanbul", "Asia/Kolkata", "America/New_York", "Pacific/Chatham"]

    /// Asks every report about the same days, all in one state of the database.
    private mutating func askReports(of user: Int64) async throws {
        reads += 1
        let zone = Self.zones.randomElement(using: &random) ?? "UTC"
        let granularity = Granularity.allCases.randomElement(using: &random) ?? .day
        let end = clock.now.advanced(by: .seconds(Int64.random(in: -86_400 * 10...86_400, using: &random)))
        let start = end.advanced(by: .seconds(-Int64.random(in: 1_000...(86_400 * 35), using: &random)))
        let (scope, now) = (user == 0 ? UsageScope.allUsers : .user(user), clock.now)
        let (series, others) = try await database.pool(as: .admin).withConnection { connection in
            let range = try ReportRange(from: start, to: end, zone: TimeZoneName.require(zone, connection))
            return try ReportSnapshot.take(connection) { snapshot in
                let summary = try UsageSummary(scope, range, snapshot)
                let breakdown = try UsageBreakdown(scope, range, by: user == 0 ? .user : .model, limit: 1, snapshot)
                let byModel = try UsageSeries(scope, range, every: granularity, by: .model, limit: 1, snapshot)
                let chart = try LaravelChart(of: user, now: now, snapshot)
                return try (
                    UsageSeries(scope, range, every: granularity, snapshot),
                    [
                        "summary": summary.current.sums.line, "breakdown": breakdown.total.line,
                        "largest": user == 0
                            ? breakdown.parts.first.map { "\($0.key ?? "") \($0.sums.line)" } ?? "nobody" : nil,
                        "by model": byModel.lines.flatMap(\.sums).reduce(UsageTotals(), +).line,
                        "calls": "\(CallCount(scope, range, snapshot).calls)",
                        "chart":
                            "\(chart.models.reduce(0) { $0 + $1.calls }) \(chart.days.reduce(0) { $0 + $1.tokens })",
                    ].compactMapValues(\.self)
                )
            }
        }
        let boundaries = series.buckets.map(\.start.quarter) + series.buckets.suffix(1).map(\.end.quarter)
        let (buckets, total) = model.sums(of: user, between: boundaries)
        var expected = ["summary": total, "breakdown": total, "by model": total]
        expected["calls"] = total.split(separator: " ").first.map(String.init)
        let largest = model.largest(from: boundaries[0], to: boundaries[boundaries.count - 1])
        if user == 0 { expected["largest"] = largest ?? "nobody" }
        // To Laravel user 0 is nobody.
        let window = model.sums(of: user, between: [now.quarter - 96 * 30, now.quarter + 96 * 400]).total
        expected["chart"] = user == 0 ? "0 0" : window.split(separator: " ").dropLast().joined(separator: " ")
        let found = series.lines[0].sums.map(\.line)
        if found != buckets || others != expected {
            mismatches.append(
                "step \(steps), user \(user), \(granularity) \(zone): \(found) \(others), not \(buckets) \(expected)")
        }
    }
}

extension UsageTotals {
    /// As the model writes sums; the tokens of the story are all input.
    fileprivate var line: String { "\(requests) \(inputTokens) \(pricedCost.picodollars)" }
}

extension Timestamp {
    /// The quarter of an hour that begins with it.
    fileprivate var quarter: Int64 { microseconds / 900_000_000 }
}

extension UsageModel.Row {
    /// Writes it as Laravel does, and returns its id.
    fileprivate func insert(_ connection: Connection) throws -> Int64 {
        try connection.query(
            """
            INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                         created_at, updated_at)
            VALUES (\(user), 'gpt-4', \(tokens), 0, \(picodollars)::numeric / 1000000000000, 10,
                    to_timestamp(\(quarter)::bigint * 900) AT TIME ZONE 'UTC', now())
            RETURNING id
            """)[0].decode(0)
    }
}

extension Logger {
    /// Says nothing: workers are killed on purpose.
    static let quiet = Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })
}
