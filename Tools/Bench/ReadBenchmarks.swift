import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// One request to `admin-api` over HTTP with a token.
struct ReadBenchmark: Benchmark {
    /// What the last pass has left, or what comes in meanwhile.
    enum Tail {
        /// Nothing is pending.
        case none
        /// As many logs are pending, and nobody rolls them up.
        case pending(Int)
        /// As many come in each second, and a worker rolls them up.
        case arriving(Int)
    }

    let name: String
    private let question: ReadQuestion
    private let connections: Int
    private let recent: Int
    private let tail: Tail

    var summary: String {
        let logs =
            switch tail {
            case .none: ""
            case .pending(let count): "; \(count) pending logs"
            case .arriving(let count): "; \(count) events a second come in, and a worker rolls them up"
            }
        return "\(question.summary), \(connections == 1 ? "one connection" : "\(connections) connections")\(logs)"
    }

    /// `recent` is the number of events that are made for the present day if the heavy user has none.
    init(_ name: String, _ question: ReadQuestion, connections: Int, recent: Int = 60_000, _ tail: Tail = .none) {
        self.name = name
        self.question = question
        self.connections = connections
        self.recent = recent
        self.tail = tail
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        switch tail {
        case .none: try await site.rollUpEverything(recent: recent)
        case .pending(let count): try await site.makePending(count)
        case .arriving(let count):
            try await site.rollUpEverything(recent: recent)
            return try await site.whileIngesting(eventsPerSecond: count) { try await read(site, seconds: seconds) }
        }
        return try await read(site, seconds: seconds)
    }

    private func read(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let user = Int64(question.isAdministrators ? BenchUser.administratorID : BenchUser.heavyID)
        let client = try await DashboardClient.login(site, user: user)
        let from = Timestamp.now.advanced(by: .seconds(-30 * 86_400)).day
        let path = question.path(from)
        return try await MeasuredService.start("admin-api", site, ["ADMIN_PORT": "0"]).whileRunning { service in
            // PostgreSQL plans the first ones, and reads them from the disk.
            for _ in 0..<3 { try await requireTruth(client, service, path, from, site) }
            let clock = ContinuousClock()
            let start = clock.now
            _ = try await client.get(path, of: service)
            // Long enough for two answers on each connection, even with one processor.
            let enough = 2 * Double(connections) * ((clock.now - start) / .seconds(1))
            let meter = CPUMeter(service: service.process.processID, postmaster: site.postmaster)
            let report = try await client.load(
                path, of: service, connections: connections, seconds: max(seconds, Int(enough.rounded(.up))))
            let measurement = Measurement(report, cpu: meter.reading, of: service)
            try await requireTruth(client, service, path, from, site)
            return measurement
        }
    }

    /// A range that ends now moves during the request, so its count is between those before and after.
    private func requireTruth(
        _ client: DashboardClient, _ service: MeasuredService, _ path: String, _ from: CalendarDate, _ site: BenchSite
    ) async throws {
        let before = try await site.number(question.truth(from))
        let calls = try question.calls(Data(try await client.get(path, of: service).utf8))
        let after = try await site.number(question.truth(from))
        try WrongResult.require(
            (min(before, after)...max(before, after)).contains(calls),
            "\(name) says \(calls), the rows said \(before) before and \(after) after.")
    }
}

extension BenchSite {
    /// Rolls up all logs, so that each measurement finds the tables as a pass leaves them. The filled database may be
    /// of another day, so `recent` events of the present day are added where the heavy user has none.
    ///
    /// - Throws: ``PostgresError``.
    func rollUpEverything(recent: Int) async throws {
        let today = try await number(
            """
            SELECT count(*) FROM public.api_logs
            WHERE user_id = \(Int64(BenchUser.heavyID)) AND created_at >= date_trunc('day', now() AT TIME ZONE 'UTC')
            """)
        if today == 0 {
            _ = try await pool.withConnection { try EventBulk.insert(recent, now: .now, $0) }
        }
        guard try await rollUp().rows > 0 else { return }
        try await vacuumRollups()
    }

    /// Rolls up all logs and adds `count` pending ones, unless there are as many. The worker rolls up logs without an
    /// event every second, so none of those is pending.
    ///
    /// - Throws: ``PostgresError``.
    func makePending(_ count: Int) async throws {
        let waiting = try await number(
            """
            SELECT count(*) FROM metering.events
            WHERE api_log_id > (SELECT event_log_id FROM metering.rollup_watermark)
            """)
        guard waiting != count else { return }
        _ = try await rollUp()
        try await pool.withConnection { _ = try EventBulk.insert(count, now: .now, $0) }
        try await vacuumRollups()
        _ = try await RollupPass(pool: pool, now: { .now }).run(.laravel)
    }
}

extension Timestamp {
    /// The UTC day of it.
    fileprivate var day: CalendarDate { CalendarDate(daysSince1970: microseconds / 86_400_000_000) }
}

/// A request of a dashboard, and the query for its truth.
struct ReadQuestion: Sendable {
    let name: String
    let summary: String
    /// Whether an administrator asks, and not the user of a tenth of all events.
    var isAdministrators = false
    /// Path and query for a range that begins with a day.
    let path: @Sendable (_ from: CalendarDate) -> String
    /// The calls that an answer counts.
    let calls: @Sendable (Data) throws -> Int
    /// The calls that it must count.
    let truth: @Sendable (_ from: CalendarDate) -> Query

    static let all = [
        ReadQuestion("stats", "GET /api/dashboard/stats") { _ in
            "/api/dashboard/stats"
        } calls: {
            try JSONDecoder().decode(Stats.self, from: $0).today.calls
        } truth: { _ in
            rows(since: "date_trunc('day', now() AT TIME ZONE 'UTC')")
        },
        ReadQuestion("usage", "GET /api/dashboard/usage: 30 days by day and by model, and the last calls") { _ in
            "/api/dashboard/usage"
        } calls: {
            try JSONDecoder().decode(Usage.self, from: $0).distribution.counts.reduce(0, +)
        } truth: { _ in
            rows(since: "date_trunc('second', now() AT TIME ZONE 'UTC' - interval '30 days')")
        },
        ReadQuestion("analytics", "GET /api/usage/analytics: 30 days, models of all time, the present month") { _ in
            "/api/usage/analytics"
        } calls: {
            try JSONDecoder().decode(Analytics.self, from: $0).month.calls
        } truth: { _ in
            rows(since: "date_trunc('month', now() AT TIME ZONE 'UTC')")
        },
        ReadQuestion("series-model", "GET /api/v1/analytics/timeseries: 30 days by day and model") {
            "/api/v1/analytics/timeseries?from=\($0)&granularity=day&group_by=model"
        } calls: {
            try JSONDecoder().decode(Series.self, from: $0).series.flatMap(\.values).reduce(0) { $0 + $1.requests }
        } truth: {
            rows(since: "\($0.start) AT TIME ZONE 'UTC'")
        },
        ReadQuestion(
            "breakdown-user", "GET /api/v1/analytics/breakdown: 30 days of all users by user", isAdministrators: true
        ) {
            "/api/v1/analytics/breakdown?from=\($0)&group_by=user"
        } calls: {
            try JSONDecoder().decode(Breakdown.self, from: $0).total.requests
        } truth: {
            "SELECT count(*) FROM public.api_logs WHERE created_at >= \($0.start) AT TIME ZONE 'UTC'"
        },
    ]

    private init(
        _ name: String, _ summary: String, isAdministrators: Bool = false,
        path: @escaping @Sendable (CalendarDate) -> String, calls: @escaping @Sendable (Data) throws -> Int,
        truth: @escaping @Sendable (CalendarDate) -> Query
    ) {
        self.name = name
        self.summary = summary
        self.isAdministrators = isAdministrators
        self.path = path
        self.calls = calls
        self.truth = truth
    }

    private static func rows(since moment: Query) -> Query {
        "SELECT count(*) FROM public.api_logs WHERE user_id = \(Int64(BenchUser.heavyID)) AND created_at >= \(moment)"
    }
}

/// The parts of answers that count calls.
private struct Calls: Decodable {
    let calls: Int
    enum CodingKeys: String, CodingKey { case calls = "api_calls" }
}

private struct Requests: Decodable { let requests: Int }

private struct Stats: Decodable { let today: Calls }

private struct Usage: Decodable {
    struct Distribution: Decodable { let counts: [Int] }
    let distribution: Distribution
    enum CodingKeys: String, CodingKey { case distribution = "model_distribution" }
}

private struct Analytics: Decodable {
    let month: Calls
    enum CodingKeys: String, CodingKey { case month = "monthly_stats" }
}

private struct Series: Decodable {
    struct Line: Decodable { let values: [Requests] }
    let series: [Line]
}

private struct Breakdown: Decodable { let total: Requests }

/// All logs of the heavy user as CSV: by `admin-api`, or by psql's `\copy` of the same columns.
struct ExportBenchmark: Benchmark {
    let name: String
    let summary: String
    private let isCopy: Bool

    init(_ name: String, isCopy: Bool = false, _ summary: String) {
        self.name = name
        self.summary = summary
        self.isCopy = isCopy
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let rows = try await site.number(
            "SELECT count(*) FROM public.api_logs WHERE user_id = \(Int64(BenchUser.heavyID))")
        if isCopy { return try await repeated(rows, site, service: nil, seconds) { try await copy(site, into: $0) } }
        let client = try await DashboardClient.login(site, user: Int64(BenchUser.heavyID))
        return try await MeasuredService.start("admin-api", site, ["ADMIN_PORT": "0"]).whileRunning { service in
            var measurement = try await repeated(rows, site, service: service.process.processID, seconds) {
                _ = try await client.get("/api/usage/export", of: service, into: $0)
            }
            measurement.peakMemory = residentPeak(of: service.process.processID)
            return measurement
        }
    }

    /// Makes whole exports for at least `seconds`. The last one is compared with `\copy`, byte by byte.
    private func repeated(
        _ rows: Int, _ site: BenchSite, service: Int32?, _ seconds: Int, _ export: (String) async throws -> Void
    ) async throws -> Measurement {
        let files = ["export.csv", "copy.csv"].map { site.folder.appending(path: $0).path() }
        defer { files.forEach { try? FileManager.default.removeItem(atPath: $0) } }
        try await export(files[0])
        let clock = ContinuousClock()
        let (start, meter) = (clock.now, CPUMeter(service: service, postmaster: site.postmaster))
        var count = 0
        repeat {
            try await export(files[0])
            count += rows
        } while clock.now - start < .seconds(seconds)
        var measurement = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
        if service == nil { measurement.serviceCPU = nil }
        try await copy(site, into: files[1])
        // The first lines name the columns differently.
        let same = #"tail -n +2 "$0" >"$0.rows"; tail -n +2 "$1" | cmp - "$0.rows"; code=$?; rm "$0.rows"; exit $code"#
        try await Command.run("/bin/sh", ["-c", same] + files)
        let lines = try await Command.run("/bin/sh", ["-c", #"wc -l <"$0""#, files[0]])
        try WrongResult.require(Int(lines) == rows + 1, "\(name) has \(lines) lines for \(rows) rows and the names.")
        return measurement
    }

    private func copy(_ site: BenchSite, into file: String) async throws {
        let database = site.database
        let rows = """
            SELECT created_at, model, input_tokens, output_tokens, total_cost, response_time_ms, status
            FROM public.api_logs WHERE user_id = \(BenchUser.heavyID) ORDER BY created_at DESC, id DESC
            """
        try await Command.run(
            "/usr/bin/env",
            [
                "psql", "--no-psqlrc", "--quiet", "--host", database.host, "--port", "\(database.port)", "--username",
                database.user, "--dbname", database.database, "--command",
                "\\copy (\(rows.replacing("\n", with: " "))) TO '\(file)' WITH (FORMAT csv, HEADER)",
            ], within: .seconds(600))
    }
}
