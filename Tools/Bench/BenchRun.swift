import Foundation
import Postgres
import TestSupport

/// One run: a filled database, rounds of measurements side by side, and at the end the books.
struct BenchRun: Sendable {
    struct Options: Sendable {
        var rows: Int
        var pairs: Int
        var seconds: Int
        var isFresh = false
        /// Whether a user's calls come in bursts of fifty, and not each by itself.
        var isBursty = false
        var schedule = Schedule()
        /// Where files of the run go.
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
    /// - Throws: ``WrongResult`` when a measurement's events are not all there, or counted wrongly.
    func run() async throws -> BenchReport {
        guard let url = ProcessInfo.processInfo.environment["BENCH_DATABASE_URL"], !url.isEmpty else {
            throw WrongResult(description: "BENCH_DATABASE_URL is not set: run this by 'make bench'.")
        }
        return try await run(on: try TestServer.configuration(url: url))
    }

    /// Measures on `server`, whose databases `bench_…` it makes and wipes. Throws as ``run()``.
    func run(on server: ConnectionConfiguration) async throws -> BenchReport {
        let server = try await overSocket(server)
        let filled = FilledDatabase(
            server: server, rows: options.rows, burst: options.isBursty ? 50 : 1, log: log)
        let database = try await filled.makeCopy(isFresh: options.isFresh)
        let result: Result<BenchReport, any Error>
        do {
            result = .success(try await measure(try await BenchSite(database, folder: options.folder)))
        } catch {
            result = .failure(error)
        }
        try await filled.removeCopy()
        return try result.get()
    }

    private func measure(_ site: BenchSite) async throws -> BenchReport {
        do {
            let facts = try await MachineFacts(site, rows: options.rows, seconds: options.seconds)
            var samples: [Sample] = []
            for round in 1...options.pairs {
                log("round \(round) of \(options.pairs)")
                for benchmark in options.schedule.round {
                    try Task.checkCancellation()
                    try await site.warm()
                    let measurement = try await benchmark.measure(site, seconds: options.seconds)
                    log("  \(benchmark.name.padded(to: 22)) \(measurement.rate.shown(leading: 9)) /s")
                    samples.append(Sample(benchmark: benchmark.name, round: round, measurement: measurement))
                }
            }
            log("comparing every user's counters with the facts")
            try await requireExactCounters(site)
            await site.pool.close()
            return BenchReport(facts: facts, schedule: options.schedule, samples: samples)
        } catch {
            await site.pool.close()
            throw error
        }
    }

    /// Hot users lose nothing: for each user and window, what was there before and what the run added.
    private func requireExactCounters(_ site: BenchSite) async throws {
        let (count, examples) = try await IntegrityAudit(pool: site.pool).offenders(of: .counters, within: .zero)
        try WrongResult.require(count == 0, "\(count) \(IntegrityCheck.counters.name): \(examples)")
    }

    /// The same server by its socket: what costs least, for everybody alike.
    private func overSocket(_ server: ConnectionConfiguration) async throws -> ConnectionConfiguration {
        let folder = try await withPool(server) { pool in
            try await pool.withConnection { try $0.query("SHOW unix_socket_directories")[0].decode(0, as: String.self) }
        }
        var socket = server
        socket.host = folder
        // Copying ten gigabytes is one statement.
        socket.statementTimeout = .zero
        return socket
    }
}
