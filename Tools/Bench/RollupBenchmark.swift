import Analytics
import Domain
import Postgres
import Storage
import Synchronization

/// Rolls up pending logs: by a pass of the worker with its watermark, windows and rollups of all users, or by the one
/// statement that every implementation needs.
struct RollupBenchmark: Benchmark {
    let name: String
    let summary: String
    private let isBare: Bool
    private let rows: Int

    init(_ name: String, isBare: Bool = false, rows: Int = 200_000, _ summary: String) {
        self.name = name
        self.summary = summary
        self.isBare = isBare
        self.rows = rows
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let growth = try await RollupGrowth.begin(site)
        let rows = rows
        let ids = try await site.pool.withConnection { connection in
            let ids = try EventBulk.insert(rows, now: .now, connection)
            try connection.executeScript("ANALYZE metering.events")
            return ids
        }
        let clock = ContinuousClock()
        let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
        let done = isBare ? try await rollUpBare(ids, site) : try await site.rollUp().rows
        var measurement = Measurement(count: done, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
        measurement.clientCPU = nil
        try WrongResult.require(done == rows, "\(done) of \(rows) events were rolled up.")
        if isBare { try await completeBare(ids, site) }
        try await growth.requireRolledUp(rows)
        return measurement
    }

    /// Makes the 15-minute rollups of users. All events are after the day boundary, so no day rollup changes.
    private func rollUpBare(_ ids: ClosedRange<Int>, _ site: BenchSite) async throws -> Int {
        try await site.pool.transaction { connection in
            try connection.executeScript("SET LOCAL work_mem = '64MB'")
            try connection.execute(Self.insert(ids, user: "f.user_id", histogram: Self.histogram))
            return ids.count
        }
    }

    /// Adds what the bare statement leaves out: the rollups of all users, and the watermark.
    private func completeBare(_ ids: ClosedRange<Int>, _ site: BenchSite) async throws {
        try await site.pool.transaction { connection in
            try connection.execute(Self.insert(ids, user: "0::bigint", histogram: "metering.merged(\(Self.histogram))"))
            try connection.execute(
                """
                UPDATE metering.rollup_watermark
                SET event_log_id = \(ids.upperBound), other_log_id = \(ids.upperBound),
                    commit_horizon = \(ids.upperBound)
                """)
        }
    }

    private static let histogram: Query = "array_agg((metering.bucket_of(f.duration_ms) << 40) + 1)"

    private static func insert(_ ids: ClosedRange<Int>, user: Query, histogram: Query) -> Query {
        """
        INSERT INTO metering.rollup_15m AS u (
            user_id, quarter, dimension, requests, unpriced, input_tokens, output_tokens, cached_tokens,
            reasoning_tokens, duration_ms, cost, ledger_cost, histogram)
        SELECT \(user), metering.quarter_of(f.occurred_at), d.dimension, count(*), count(*) - count(f.cost),
               sum(f.input_tokens), sum(f.output_tokens), sum(f.cached_tokens), sum(f.reasoning_tokens),
               sum(coalesce(f.duration_ms, 0)), coalesce(sum(f.cost), 0), sum(f.ledger_cost),
               \(histogram)
        FROM metering.event_facts(\(ids.lowerBound - 1)::bigint, \(ids.upperBound)::bigint) f
        JOIN metering.rollup_dimension d
            ON d.model = f.model AND d.status = f.status
            AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
        GROUP BY 1, 2, 3
        ON CONFLICT (user_id, quarter, dimension) DO UPDATE
        SET requests = u.requests + excluded.requests, unpriced = u.unpriced + excluded.unpriced,
            input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            cached_tokens = u.cached_tokens + excluded.cached_tokens,
            reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
            duration_ms = u.duration_ms + excluded.duration_ms, cost = u.cost + excluded.cost,
            ledger_cost = u.ledger_cost + excluded.ledger_cost,
            histogram = u.histogram || excluded.histogram
        """
    }
}

/// A worker that runs during a measurement, with the schedule of the service.
final class WorkerBeside: Sendable {
    private let site: BenchSite
    private let isStopping = Mutex(false)

    init(_ site: BenchSite) {
        self.site = site
    }

    /// Rolls up until ``stop()``, and returns the number of logs.
    ///
    /// - Throws: ``PostgresError``.
    func run() async throws -> Int {
        let pool = site.makePool(connections: 1)
        let pass = RollupPass(pool: pool, rest: RollupSchedule.rest, now: { .now })
        let result: Result<Int, any Error>
        do { result = .success(try await rollUp(pass, on: pool)) } catch { result = .failure(error) }
        await pool.close()
        return try result.get()
    }

    /// Lets the present window finish. To cancel it would be an error.
    func stop() {
        isStopping.withLock { $0 = true }
    }

    private func rollUp(_ pass: RollupPass, on pool: ConnectionPool) async throws -> Int {
        var schedule = RollupSchedule(interval: .seconds(60), now: .now)
        var rows = 0
        while !isStopping.withLock({ $0 }) {
            let start = ContinuousClock.now
            var pause = RollupSchedule.pause
            let pendingIDs = try await pool.withConnection { try RollupState.pendingIDs($0) }
            if let scope = schedule.scope(pendingIDs: pendingIDs, at: start) {
                rows += try await pass.run(scope) { _ in !self.isStopping.withLock { $0 } }.rows
                pause = schedule.pause(afterPassFrom: start, to: .now)
            }
            try await Task.sleep(for: pause)
        }
        return rows
    }
}

/// Events that come in during a measurement, as many each second, a tenth of them of the heavy user.
final class IngestBeside: Sendable {
    private static let interval: Duration = .milliseconds(100)

    private let site: BenchSite
    private let eventsPerSecond: Int
    private let isStopping = Mutex(false)

    init(_ site: BenchSite, eventsPerSecond: Int) {
        self.site = site
        self.eventsPerSecond = eventsPerSecond
    }

    /// Writes until ``stop()``.
    ///
    /// - Throws: ``PostgresError``.
    func run() async throws {
        let pool = site.makePool(connections: 1)
        let result: Result<Void, any Error>
        do { result = .success(try await write(pool)) } catch { result = .failure(error) }
        await pool.close()
        try result.get()
    }

    func stop() {
        isStopping.withLock { $0 = true }
    }

    private func write(_ pool: ConnectionPool) async throws {
        let events = Int(Double(eventsPerSecond) * (Self.interval / .seconds(1)))
        var next = ContinuousClock.now
        while !isStopping.withLock({ $0 }) {
            try await pool.withConnection { _ = try EventBulk.insert(events, now: .now, $0) }
            next += Self.interval
            try await Task.sleep(until: next)
        }
    }
}

extension BenchSite {
    /// Runs `body` while events come in and a worker rolls them up.
    ///
    /// - Throws: What `body` throws; ``PostgresError``.
    func whileIngesting<T>(eventsPerSecond: Int, _ body: () async throws -> T) async throws -> T {
        let (ingest, worker) = (IngestBeside(self, eventsPerSecond: eventsPerSecond), WorkerBeside(self))
        async let written: Void = ingest.run()
        async let rolledUp = worker.run()
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        ingest.stop()
        worker.stop()
        _ = try await (written, rolledUp)
        return try result.get()
    }
}
