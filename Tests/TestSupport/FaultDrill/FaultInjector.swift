internal import Foundation
internal import Postgres

/// Makes faults happen, each to its end: when it returns, what was ended is gone and what was replaced is there.
struct FaultInjector: Sendable {
    /// A fault could not be made to happen.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let cluster: PostgresCluster
    let database: ConnectionConfiguration
    let processes: WebhookProcesses

    /// Throws ``Failure``, `Command.Failure`, `ServiceProcess.Failure`, `PostgresError`.
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
            // The postmaster ends all sessions, as any may have seen broken shared memory.
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
            try await cluster.stop(.immediate)
            try await cluster.start()
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
        let deadline = ContinuousClock.now + .seconds(30)
        while ids.contains(where: { kill($0, 0) == 0 }) {
            guard ContinuousClock.now < deadline else { throw Failure(description: "a backend did not end") }
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}
