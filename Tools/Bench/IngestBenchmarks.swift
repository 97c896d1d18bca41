import Domain
import Foundation
import LiteLLM
import Postgres
import Storage
import TestSupport

/// Events through the whole service: HTTP, JSON, attribution, one transaction, an answer after COMMIT.
struct HTTPBenchmark: Benchmark {
    let name: String
    let summary: String
    private let kind: EventTemplate.Kind
    private let events: Int
    private let connections: Int
    private let people: BenchUser.Distribution

    init(
        _ name: String, _ kind: EventTemplate.Kind, events: Int = 1, connections: Int,
        people: BenchUser.Distribution = .uniform, _ summary: String
    ) {
        self.name = name
        self.summary = summary
        self.kind = kind
        self.events = events
        self.connections = connections
        self.people = people
    }

    /// Starts a service for each measurement, so that its memory is that of this load.
    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        let load = try WrkLoad.write(
            EventTemplate.load(kind), events: events, people: people, connections: connections, key: key, site: site)
        let growth = try await StoredGrowth.begin(site)
        let (measurement, acknowledged) = try await MeasuredService.startWebhook(site, key: key).whileRunning {
            try await measure($0, load, site, seconds: seconds)
        }
        // When wrk stops, each connection may have a request whose answer it does not wait for. wrk ran twice.
        try await growth.require(acknowledged...(acknowledged + 2 * connections * events))
        return measurement
    }

    private func measure(
        _ service: MeasuredService, _ load: WrkLoad, _ site: BenchSite, seconds: Int
    ) async throws -> (Measurement, acknowledged: Int) {
        let warmUp = try await load.run(port: service.port, seconds: 1)
        let before = try await service.batches()
        let meter = CPUMeter(service: service.process.processID, postmaster: site.postmaster)
        let report = try await load.run(port: service.port, seconds: seconds)
        let cpu = meter.reading
        let after = try await service.batches()
        var measurement = Measurement(report, events: events, cpu: cpu, of: service)
        measurement.batchEvents = (after.events - before.events) / max(1, after.transactions - before.transactions)
        return (measurement, (warmUp.requests + report.requests) * events)
    }
}

extension Measurement {
    /// The report of wrk about `service`, with `events` in a request.
    init(_ report: WrkReport, events: Int = 1, cpu: CPUMeter.Reading, of service: MeasuredService) {
        self.init(count: report.requests * events, seconds: report.seconds, cpu: cpu)
        meanLatency = report.mean
        medianLatency = report.median
        latency99 = report.percentile99
        peakMemory = residentPeak(of: service.process.processID)
    }
}

/// The statements of ingest alone: ``EventWriter`` with the batches of a service under load, and events that are in
/// memory already. There is no HTTP and no JSON, and pending deltas are not added to the counters. With `isRollingUp` a
/// worker rolls up beside it.
struct WriterBenchmark: Benchmark {
    /// The largest transaction of the service, which is usual for arrays.
    private static let batchEvents = GroupCommit.Limits().batchEvents

    let name: String
    let summary: String
    private let connections: Int
    private let isRollingUp: Bool

    init(_ name: String, connections: Int, isRollingUp: Bool = false, _ summary: String) {
        self.name = name
        self.summary = summary
        self.connections = connections
        self.isRollingUp = isRollingUp
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        guard isRollingUp else { return try await measureIngest(site, seconds: seconds).measurement }
        let growth = try await RollupGrowth.begin(site)
        let worker = WorkerBeside(site)
        async let pass = worker.run()
        let result: Result<(measurement: Measurement, stored: Int), any Error>
        do { result = .success(try await measureIngest(site, seconds: seconds)) } catch { result = .failure(error) }
        worker.stop()
        let rolledUp = try await pass
        let (measurement, stored) = try result.get()
        try WrongResult.require(rolledUp > 0, "The worker rolled up nothing beside the ingest.")
        try await growth.require(stored)
        return measurement
    }

    private func measureIngest(_ site: BenchSite, seconds: Int) async throws -> (measurement: Measurement, stored: Int)
    {
        let source = try EventSource.load()
        let growth = try await StoredGrowth.begin(site)
        let pool = site.makePool(connections: connections)
        let (measurement, stored): (Measurement, Int)
        do {
            let writer = EventWriter(pool: pool, now: { .now })
            let warmUp = try await write(writer, source, for: .seconds(1))
            let clock = ContinuousClock()
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let count = try await write(writer, source, for: .seconds(seconds))
            var result = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            result.clientCPU = nil
            result.batchEvents = Double(Self.batchEvents)
            (measurement, stored) = (result, warmUp + count)
        } catch {
            await pool.close()
            throw error
        }
        await pool.close()
        try await growth.require(stored...stored)
        return (measurement, stored)
    }

    /// Writes for `duration`, and returns the number of stored events.
    private func write(_ writer: EventWriter, _ source: EventSource, for duration: Duration) async throws -> Int {
        let end = ContinuousClock.now + duration
        return try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<connections {
                group.addTask {
                    var (stored, generator) = (0, SystemRandomNumberGenerator())
                    while ContinuousClock.now < end {
                        let items = source.items(Self.batchEvents, using: &generator)
                        let verdicts = try await writer.write(items, lockedUsers: .tryAgain)
                        stored += verdicts.count { if case .stored = $0 { true } else { false } }
                    }
                    return stored
                }
            }
            return try await group.reduce(0, +)
        }
    }
}

/// The captured events, parsed, each time with another key, time and user.
private struct EventSource: Sendable {
    fileprivate let events: [UsageEvent]
    fileprivate let claims: [IdentityClaim]

    static func load() throws -> EventSource {
        let now = Timestamp.now
        let arrival = Arrival(at: now, retention: .seconds(400 * 86_400))
        let events = try CapturedEvent.all().compactMap {
            try? EventParser.parse(Array($0.json.utf8), arrival: arrival).results[0].get()
        }
        let claims = (BenchUser.firstID..<(BenchUser.firstID + BenchUser.count)).map { id in
            let hash = KeyHash(of: BenchUser.key(of: id)).hex
            return IdentityClaim(
                keyHashes: [KeyHash(hex: hash), KeyHash(of: hash)].compactMap(\.self), laravelUserID: Int64(id),
                userID: Int64(id), presentedKey: hash)
        }
        return EventSource(events: events, claims: claims)
    }

    func items(_ count: Int, using generator: inout some RandomNumberGenerator) -> [IngestItem] {
        let now = Timestamp.now
        return (0..<count).map { index in
            var event = events[index % events.count]
            event.key = EventKey(arrival: now, using: &generator)
            event.identity = claims[.random(in: claims.indices, using: &generator)]
            event.occurredAt = now
            return IngestItem(.success(event))
        }
    }
}

/// The physical limit: COPY into `api_logs` as it is, with its foreign key and its index. No facts, no counters.
struct CopyBenchmark: Benchmark {
    private static let rows = 20_000
    private static let connections = 2
    private static let statement = """
        COPY public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              created_at, updated_at) FROM STDIN
        """

    let name: String
    let summary: String

    init(_ name: String, _ summary: String) {
        self.name = name
        self.summary = summary
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let text = Self.text
        let growth = try await StoredGrowth.begin(site)
        let pool = site.makePool(connections: Self.connections)
        let clock = ContinuousClock()
        let result: Result<(Measurement, Int), any Error>
        do {
            let warmUp = try await copy(text, pool, for: .seconds(1))
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let count = try await copy(text, pool, for: .seconds(seconds))
            var measurement = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            measurement.clientCPU = nil
            measurement.batchEvents = Double(Self.rows)
            result = .success((measurement, warmUp + count))
        } catch {
            result = .failure(error)
        }
        await pool.close()
        let (measurement, copied) = try result.get()
        let logs = try await growth.logs
        try WrongResult.require(logs == copied, "\(copied) rows were copied, api_logs grew by \(logs).")
        return measurement
    }

    /// Copies for `duration`, and returns the number of rows.
    private func copy(_ text: [UInt8], _ pool: ConnectionPool, for duration: Duration) async throws -> Int {
        let end = ContinuousClock.now + duration
        return try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<Self.connections {
                group.addTask {
                    var copied = 0
                    while ContinuousClock.now < end {
                        copied += try await pool.withConnection { try $0.copyIn(Self.statement) { try $0.write(text) } }
                    }
                    return copied
                }
            }
            return try await group.reduce(0, +)
        }
    }

    /// Rows of random users in COPY's text format. Every COPY has the same.
    private static var text: [UInt8] {
        var generator = SystemRandomNumberGenerator()
        let time = "2026-01-01 00:00:00"
        let lines = BenchUser.Distribution.uniform.draw(rows, using: &generator).map {
            "\($0)\tgpt-4\t100\t50\t0.0015\t1250\tsuccess\t\(time)\t\(time)\n"
        }
        return Array(lines.joined().utf8)
    }
}

/// The statements of a Laravel application in one transaction for each call, by pgbench: no HTTP, no JSON, no events.
struct NaiveBenchmark: Benchmark {
    let name: String
    let summary: String
    private let people: BenchUser.Distribution
    private let clients: Int

    init(_ name: String, _ people: BenchUser.Distribution, clients: Int = 64, _ summary: String) {
        self.name = name
        self.summary = summary
        self.people = people
        self.clients = clients
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let script = site.folder.appending(path: "naive.sql")
        try Self.script(people).write(to: script, atomically: false, encoding: .utf8)
        let growth = try await StoredGrowth.begin(site)
        let warmUp = try await run(script, site, seconds: 1)
        let meter = CPUMeter(service: nil, postmaster: site.postmaster)
        let report = try await run(script, site, seconds: seconds)
        let cpu = meter.reading
        let (expected, logs) = (warmUp.transactions + report.transactions, try await growth.logs)
        try WrongResult.require(logs == expected, "pgbench made \(expected) transactions, api_logs grew by \(logs).")
        var measurement = Measurement(
            count: report.transactions, seconds: Double(report.transactions) / report.rate, cpu: cpu)
        measurement.serviceCPU = nil
        measurement.meanLatency = report.meanLatency
        return measurement
    }

    private func run(_ script: URL, _ site: BenchSite, seconds: Int) async throws -> PgbenchReport {
        let database = site.database
        let threads = min(ProcessInfo.processInfo.activeProcessorCount, clients)
        return try PgbenchReport(
            try await Command.run(
                "/usr/bin/env",
                [
                    "pgbench", "--no-vacuum", "--protocol", "prepared", "--client", "\(clients)",
                    "--jobs", "\(threads)", "--time", "\(seconds)", "--file", script.path(), "--host", database.host,
                    "--port", "\(database.port)", "--username", database.user, database.database,
                ]))
    }

    /// Laravel's statements, without its races.
    private static func script(_ people: BenchUser.Distribution) -> String {
        let last = BenchUser.firstID + BenchUser.count - 1
        let person =
            switch people {
            case .uniform: "random(\(BenchUser.firstID), \(last))"
            case .zipf:
                "\(BenchUser.firstID - 1) + random_zipfian(1, \(BenchUser.count), \(BenchUser.Distribution.exponent))"
            }
        let upserts = [("daily", "day", 100_000, 1_000), ("monthly", "month", 1_000_000, 10_000)].map {
            period, unit, tokens, requests in
            """
            INSERT INTO rate_limits (user_id, period, limit_tokens, used_tokens, limit_requests, used_requests, \
            reset_at, created_at, updated_at) VALUES (:id, '\(period)', \(tokens), 150, \(requests), 1, \
            date_trunc('\(unit)', now() AT TIME ZONE 'UTC') + interval '1 \(unit)', now() AT TIME ZONE 'UTC', \
            now() AT TIME ZONE 'UTC') ON CONFLICT (user_id, period) DO UPDATE SET \
            used_tokens = rate_limits.used_tokens + 150, used_requests = rate_limits.used_requests + 1, \
            updated_at = excluded.updated_at;
            """
        }
        return """
            \\set person \(person)
            BEGIN;
            SELECT id FROM users WHERE api_key = 'cf_' || lpad(:person::text, 64, '0') \\gset
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, \
            created_at, updated_at) VALUES (:id, 'gpt-4', 100, 50, 0.0015, 1250, 'success', now() AT TIME ZONE 'UTC', \
            now() AT TIME ZONE 'UTC');
            \(upserts.joined(separator: "\n"))
            END;
            """
    }
}

/// The result of pgbench.
struct PgbenchReport: Equatable {
    let transactions: Int
    /// Transactions a second, without the time in which the clients connected.
    let rate: Double
    /// Milliseconds.
    let meanLatency: Double

    /// Reads the output of pgbench.
    ///
    /// - Throws: ``WrongResult`` when a number is missing, or a transaction failed.
    init(_ output: String) throws {
        guard let transactions = Self.number(after: "number of transactions actually processed: ", in: output),
            let failed = Self.number(after: "number of failed transactions: ", in: output),
            let latency = Self.number(after: "latency average = ", in: output),
            let rate = Self.number(after: "tps = ", in: output)
        else { throw WrongResult(description: "pgbench did not report: \(output)") }
        try WrongResult.require(failed == 0, "\(failed) of pgbench's transactions failed.")
        self.transactions = Int(transactions)
        self.rate = rate
        meanLatency = latency
    }

    private static func number(after words: String, in text: String) -> Double? {
        text.split(separator: "\n").first { $0.hasPrefix(words) }
            .flatMap { Double($0.dropFirst(words.count).prefix { $0.isNumber || $0 == "." }) }
    }
}
