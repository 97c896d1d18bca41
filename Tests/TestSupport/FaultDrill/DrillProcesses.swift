internal import Domain
internal import Foundation
package import Postgres
internal import Storage
internal import Synchronization

/// Injects faults. It returns when ended processes are gone and their successors run.
struct FaultInjector: Sendable {
    /// A fault could not be injected.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let servers: DrillServers
    let database: ConnectionConfiguration
    let processes: WebhookProcesses

    /// Injects `fault`.
    ///
    /// - Throws: ``Failure``, ``Command/Failure``, ``ServiceProcess/Failure`` or ``PostgresError`` when it cannot.
    func inject(_ fault: Fault, using generator: inout SplitMix64) async throws {
        let number = Int.random(in: 0..<1000, using: &generator)
        switch fault {
        case .killService:
            try await processes.replace(number, by: .kill)
        case .terminateService:
            try await processes.replace(number, by: .terminate)
        case .killBackend:
            let backends = try await backends()
            _ = kill(backends[number % backends.count], SIGKILL)
            // The postmaster then ends all sessions, because shared memory may be damaged.
            try await waitUntilGone(backends)
        case .terminateBackends:
            let backends = try await backends()
            try await withPool(database) { pool in
                _ = try await pool.withConnection { connection in
                    try connection.query("SELECT pg_terminate_backend(p) FROM unnest(\(backends)::integer[]) AS b (p)")
                }
            }
            try await waitUntilGone(backends)
        case .stopServer:
            try await servers.restartPrimary()
        case .failOver:
            try await servers.changePrimary(.immediate)
        case .switchOver:
            try await servers.changePrimary(.fast)
        }
    }

    /// The process ids of the service's sessions.
    private func backends() async throws -> [Int32] {
        let ids = try await withPool(database) { pool in
            try await pool.withConnection { connection in
                try connection.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'webhook-api'")
                    .map { try $0.decode(0, as: Int32.self) }
            }
        }
        guard !ids.isEmpty else { throw Failure(description: "webhook-api has no session") }
        return ids
    }

    private func waitUntilGone(_ ids: [Int32]) async throws {
        try await eventually("the backends end", within: .seconds(30)) { !ids.contains { kill($0, 0) == 0 } }
    }
}

/// The PostgreSQL servers of a drill: one, or a primary and a synchronous standby that takes over.
actor DrillServers {
    private var primary: PostgresCluster
    private var standby: PostgresCluster?

    /// `primary`, with a standby where one is given.
    init(primary: PostgresCluster, standby: PostgresCluster? = nil) {
        (self.primary, self.standby) = (primary, standby)
    }

    /// Stops the primary as in a crash, and starts it again.
    ///
    /// - Throws: ``Command/Failure``.
    func restartPrimary() async throws {
        try await primary.stop(.immediate)
        try await primary.start()
    }

    /// Stops the primary, lets the standby take over, and makes the former primary its standby.
    ///
    /// - Throws: ``Command/Failure``; ``FaultInjector/Failure`` where there is no standby.
    func changePrimary(_ mode: PostgresCluster.StopMode) async throws {
        guard let standby else { throw FaultInjector.Failure(description: "there is no standby") }
        try await primary.stop(mode)
        try await standby.promote()
        try await primary.follow(standby)
        (self.primary, self.standby) = (standby, primary)
    }
}

/// The `webhook-api` processes under load. Each is replaced when it is ended.
final class WebhookProcesses: Sendable {
    /// A process that accepts requests, or did so until a moment ago.
    struct Endpoint: Sendable, Hashable {
        /// Distinguishes a process from its successors.
        let generation: Int
        let port: Int
    }

    /// How a process is ended.
    enum Ending: Sendable {
        case kill
        /// By SIGTERM: accepted requests are answered, and the exit code is 0.
        case terminate
    }

    private struct Running {
        let process: ServiceProcess
        let endpoint: Endpoint
    }

    private struct State {
        var running: [Running] = []
        var generations = 0
        var terminated: Set<Int> = []
        var errorLines: [String] = []
    }

    private static let keptErrorLines = 3
    private static let keptErrorLength = 200

    /// The `X-API-Key` of every request.
    let key: String
    private let environment: [String: String]
    private let state = Mutex(State())

    /// `databaseURL` is that of a migrated database.
    init(databaseURL: String) {
        key = (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        environment = [
            "DATABASE_URL": databaseURL, "LITELLM_WEBHOOK_KEY": key, "WEBHOOK_HOST": "127.0.0.1", "WEBHOOK_PORT": "0",
        ]
    }

    /// Starts another process.

    ///

    /// - Throws: ``ServiceProcess/Failure`` when a process does not start or end.
    func start() async throws {
        let running = try await launch()
        state.withLock { $0.running.append(running) }
    }

    /// One of the processes by any number.
    func endpoint(_ number: Int) -> Endpoint {
        state.withLock { $0.running[number % $0.running.count].endpoint }
    }

    /// Whether the process was asked to stop. It must answer all requests that it has accepted.
    func isTerminated(_ endpoint: Endpoint) -> Bool {
        state.withLock { $0.terminated.contains(endpoint.generation) }
    }

    /// Processes that ended by themselves.
    var findings: [String] {
        state.withLock(\.running).compactMap { running in
            running.process.exitCode.map { code in
                "webhook-api ended by itself with \(code): \(running.process.output.suffix(500))"
            }
        }
    }

    /// The first error lines in the logs of ended processes.
    var errorLines: [String] { state.withLock(\.errorLines) }

    /// Ends one of the processes and starts its successor.

    ///

    /// - Throws: ``ServiceProcess/Failure`` when a process does not start or end.
    func replace(_ number: Int, by ending: Ending) async throws {
        let (index, running) = state.withLock { state in
            let index = number % state.running.count
            return (index, state.running[index])
        }
        try await end(running, by: ending)
        let successor = try await launch()
        state.withLock { $0.running[index] = successor }
    }

    /// Ends all of them.

    ///

    /// - Throws: ``ServiceProcess/Failure`` when a process does not start or end.
    func stop() async throws {
        for running in state.withLock(\.running) {
            try await end(running, by: .terminate)
        }
    }

    /// Kills all processes, after a drill that failed.
    func kill() {
        state.withLock(\.running).forEach { $0.process.kill() }
    }

    private func end(_ running: Running, by ending: Ending) async throws {
        defer { keepErrorLines(of: running.process) }
        switch ending {
        case .kill:
            running.process.kill()
            try await running.process.waitForExit()
        case .terminate:
            state.withLock { _ = $0.terminated.insert(running.endpoint.generation) }
            running.process.terminate()
            let code = try await running.process.waitForExit()
            guard code == 0 else {
                throw ServiceProcess.Failure(
                    reason: "webhook-api ended with \(code) when asked to stop", output: running.process.output)
            }
        }
    }

    private func keepErrorLines(of process: ServiceProcess) {
        let lines = process.output.split(separator: "\n").filter { $0.contains(" error webhook-api: ") }
        state.withLock { state in
            state.errorLines += lines.prefix(Self.keptErrorLines - state.errorLines.count)
                .map { String($0.prefix(Self.keptErrorLength)) }
        }
    }

    private func launch() async throws -> Running {
        let process = try ServiceProcess.start(product: "webhook-api", environment: environment)
        do {
            let port = try await process.waitUntilListening()
            let generation = state.withLock { state in
                state.generations += 1
                return state.generations
            }
            return Running(process: process, endpoint: Endpoint(generation: generation, port: port))
        } catch {
            process.kill()
            throw error
        }
    }
}

/// The database of a drill.
package enum DrillDatabase {
    /// Makes the database, with every migration.
    ///
    /// - Throws: ``PostgresError``.
    package static func make(in cluster: PostgresCluster) async throws -> ConnectionConfiguration {
        try await onServer(cluster.configuration, "CREATE DATABASE drill")
        let database = cluster.configuration.database("drill")
        let migrations = try Migration.load(from: Checkout.migrations)
        try await withPool(database) { pool in
            try await pool.withConnection { connection in
                _ = try Migrator(migrations: migrations).migrate(connection, now: .now)
            }
        }
        try await TestRoles.grant(on: database)
        return database
    }

    /// Makes `count` users as Laravel would, of all plans, every seventh suspended.

    ///

    /// - Throws: ``PostgresError``.
    static func makeUsers(_ count: Int, in database: ConnectionConfiguration) async throws -> [LoadUser] {
        let keys = (0..<count).map { _ in
            "cf_" + (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        }
        return try await withPool(database) { pool in
            try await pool.withConnection { connection in
                let rows = try connection.query(
                    """
                    INSERT INTO public.users (name, email, password, api_key, plan, status)
                    SELECT 'Ada ' || n, 'ada' || n || '@example.com', 'x', k,
                           (ARRAY['starter', 'pro', 'agency'])[1 + n % 3],
                           CASE n % 7 WHEN 0 THEN 'suspended' ELSE 'active' END
                    FROM unnest(\(keys)::text[]) WITH ORDINALITY AS u (k, n)
                    RETURNING id, api_key
                    """)
                return try rows.map { row in
                    let (id, key) = try row.decode(Int64.self, String.self)
                    return LoadUser(id: id, key: key)
                }
            }
        }
    }
}
