internal import Foundation
package import Postgres

/// A throw-away PostgreSQL cluster, for tests that stop or kill the server.
package struct PostgresCluster: Sendable {
    /// How `pg_ctl stop` goes about it.
    package enum StopMode: String, Sendable {
        /// Sessions are ended, then everything is written.
        case fast
        /// As a crash: the next start recovers from the log.
        case immediate
    }

    private static let script = Checkout.root.appending(path: "scripts/postgres").path()

    private let directory: String
    /// Where its database `postgres` is, also while it is stopped: it keeps its port.
    package let configuration: ConnectionConfiguration

    /// Makes and starts one in a temporary folder. Throws `Command.Failure`.
    package init() async throws {
        // Short, for the path of its socket. `make test` removes what a killed run has left in its folder.
        let folder = ProcessInfo.processInfo.environment["TEST_CLUSTERS"] ?? "/tmp"
        directory = "\(folder)/codexflow-\(UUID().uuidString.prefix(8).lowercased())"
        do {
            try await Command.run(Self.script, ["start", directory, "0"])
            configuration = try ConnectionConfiguration(
                url: try await Command.run(Self.script, ["url", directory, "postgres"]))
        } catch {
            _ = try? await Command.run(Self.script, ["remove", directory])
            throw error
        }
    }

    /// Starts it again, on the same port. Throws `Command.Failure`.
    package func start() async throws {
        try await Command.run(Self.script, ["start", directory, String(configuration.port)])
    }

    /// Stops the server. Throws `Command.Failure`.
    package func stop(_ mode: StopMode) async throws {
        try await Command.run(Self.script, ["stop", directory, mode.rawValue])
    }

    /// Stops it and deletes its files. Throws `Command.Failure`.
    package func remove() async throws {
        try await Command.run(Self.script, ["remove", directory])
    }
}

/// Lends `body` a cluster of its own.
///
/// Throws `Command.Failure`, and what `body` throws.
package func withPostgresCluster<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (PostgresCluster) async throws -> Result
) async throws -> Result {
    let cluster = try await PostgresCluster()
    let result: Result
    do {
        result = try await body(cluster)
    } catch {
        // The test's own failure says more than one of the clean-up.
        _ = try? await cluster.remove()
        throw error
    }
    try await cluster.remove()
    return result
}
