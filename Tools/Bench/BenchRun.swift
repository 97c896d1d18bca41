import Foundation
import Logging
import Postgres
import TestSupport

/// One run: a filled database, rounds of measurements, and an integrity check at the end.
struct BenchRun: Sendable {
    struct Options: Sendable {
        var rows: Int
        var pairs: Int
        var seconds: Int
        var isFresh = false
        /// Whether the filled events are bursts of fifty calls of one user.
        var isBursty = false
        var schedule = Schedule()
        /// The folder of the run's files.
        var folder = Checkout.root.appending(path: ".local/bench")
    }

    private let options: Options
    private let log: @Sendable (String) -> Void

    init(_ options: Options, log: @escaping @Sendable (String) -> Void) {
        self.options = options
        self.log = log
    }

    /// Measures on the server that BENCH_DATABASE_URL names.
    ///
    /// - Throws: ``WrongResult`` when events are missing or counted wrongly; ``PostgresError``.
    func run() async throws -> BenchReport {
        guard let url = ProcessInfo.processInfo.environment["BENCH_DATABASE_URL"], !url.isEmpty else {
            throw WrongResult(description: "BENCH_DATABASE_URL is not set: run this by 'make bench'.")
        }
        return try await run(on: try TestServer.configuration(url: url))
    }

    /// Measures on `server`. It makes and deletes databases `bench_…` there.
    ///
    /// - Throws: ``WrongResult`` when events are missing or counted wrongly; ``PostgresError``.
    func run(on server: ConnectionConfiguration) async throws -> BenchReport {
        let server = try await overSocket(server)
        let filled = FilledDatabase(
            server: server, rows: options.rows, burst: options.isBursty ? 50 : 1, log: log)
        let database = try await filled.makeCopy(isFresh: options.isFresh)
        let result: Result<BenchReport, any Error>
        do {
            result = .success(try await measure(try await BenchSite.open(database, folder: options.folder)))
        } catch {
            result = .failure(error)
        }
        try await filled.removeCopy()
        return try result.get()
    }

    private func measure(_ site: BenchSite) async throws -> BenchReport {
        do {
            let facts = try await MachineFacts.gather(site, rows: options.rows, seconds: options.seconds)
            var samples: [Sample] = []
            for round in 1...options.pairs {
                log("round \(round) of \(options.pairs)")
                for benchmark in options.schedule.round {
                    try Task.checkCancellation()
                    try await site.warm()
                    let start = MachineNoise.Clock(postmaster: site.postmaster)
                    let measurement = try await benchmark.measure(site, seconds: options.seconds)
                    let noise = MachineNoise.Clock(postmaster: site.postmaster).noise(since: start)
                    log("  \(benchmark.name.padded(to: 26)) \(measurement.rate.shown(leading: 9)) /s")
                    samples.append(
                        Sample(benchmark: benchmark.name, round: round, measurement: measurement, noise: noise))
                }
            }
            log("comparing the counters of every user with the events")
            try await requireExactCounters(site)
            await site.pool.close()
            return BenchReport(facts: facts, schedule: options.schedule, samples: samples)
        } catch {
            await site.pool.close()
            throw error
        }
    }

    /// Compares each counter with the events of its user and period.
    private func requireExactCounters(_ site: BenchSite) async throws {
        let (count, examples) = try await IntegrityAudit(pool: site.pool).offenders(of: .counters, within: .zero)
        try WrongResult.require(count == 0, "\(count) \(IntegrityCheck.counters.name): \(examples)")
    }

    /// The same server over its socket, which costs least and is the same for all benchmarks.
    private func overSocket(_ server: ConnectionConfiguration) async throws -> ConnectionConfiguration {
        let folder = try await withPool(server) { pool in
            try await pool.withConnection { try $0.query("SHOW unix_socket_directories")[0].decode(0, as: String.self) }
        }
        var socket = server
        socket.host = folder
        // A copy of ten gigabytes is one statement.
        socket.statementTimeout = .zero
        return socket
    }
}

/// The database of one run, and its server.
struct BenchSite: Queryable {
    /// Over the server's socket.
    let database: ConnectionConfiguration
    /// For queries before and after a measurement.
    let pool: ConnectionPool
    /// The process id of the server's first process.
    let postmaster: Int32
    /// The folder of templates, scripts and the log of the service.
    let folder: URL
    /// The folder of the programs.
    let products: URL

    /// Connects to `database` and makes `folder`.
    ///
    /// - Throws: ``PostgresError``; ``WrongResult`` when the server is on another machine.
    static func open(
        _ database: ConnectionConfiguration, folder: URL, products: URL = Checkout.products
    ) async throws -> BenchSite {
        let pool = ConnectionPool(database, limits: PoolLimits(maxConnections: 2), logger: Logger(label: "bench"))
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let backend = try await pool.withConnection {
            try $0.query("SELECT pg_backend_pid()")[0].decode(0, as: Int.self)
        }
        guard let postmaster = ProcessorTime.parent(of: Int32(backend)) else {
            throw WrongResult(description: "The server's processes are not on this machine.")
        }
        return BenchSite(database: database, pool: pool, postmaster: postmaster, folder: folder, products: products)
    }

    /// Reads tables and indexes into the system's cache that a service of an hour's age has there. A database that was
    /// just copied is not in the cache, so each measurement would begin with the disk.
    ///
    /// - Throws: ``PostgresError``.
    func warm() async throws {
        try await pool.withConnection { connection in
            try connection.executeScript("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
            _ = try connection.query(
                """
                WITH hot AS (
                    SELECT unnest('{public.users,public.rate_limits,metering.api_keys}'::regclass[]) AS relation
                )
                SELECT sum(pg_prewarm(r.relation, 'read'))
                FROM (
                    SELECT relation FROM hot
                    UNION ALL SELECT i.indexrelid FROM pg_index i JOIN hot h ON h.relation = i.indrelid
                    UNION ALL SELECT unnest(
                        '{public.api_logs_user_id_created_at_index,metering.events_named_pkey}'::regclass[])
                ) r
                """)
        }
    }

    /// A pool for a benchmark that uses the database directly.
    func makePool(connections: Int) -> ConnectionPool {
        ConnectionPool(database, limits: PoolLimits(maxConnections: connections), logger: Logger(label: "bench"))
    }
}
