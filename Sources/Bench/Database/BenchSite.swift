import Foundation
import Logging
import Postgres
import TestSupport

/// Where benchmarks are measured: a database of one run, and the server it is on.
struct BenchSite: Queryable {
    /// Reached over the server's socket, by everybody alike.
    let database: ConnectionConfiguration
    /// For questions before and after a measurement.
    let pool: ConnectionPool
    /// The process id of the server's first process.
    let postmaster: Int32
    /// For what a measurement writes: templates, scripts, the service's log.
    let folder: URL
    /// The folder where the service's program is.
    let products: URL

    /// Throws `PostgresError`.
    init(_ database: ConnectionConfiguration, folder: URL, products: URL = Checkout.products) async throws {
        self.database = database
        self.folder = folder
        self.products = products
        pool = ConnectionPool(database, limits: PoolLimits(maxConnections: 2), logger: Logger(label: "bench"))
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let backend = try await pool.withConnection {
            try $0.query("SELECT pg_backend_pid()")[0].decode(0, as: Int.self)
        }
        guard let postmaster = ProcessorTime.parent(of: Int32(backend)) else {
            throw WrongResult(description: "The server's processes are not on this machine.")
        }
        self.postmaster = postmaster
    }

    /// A pool of its own for a benchmark that talks to the database by itself.
    func makePool(connections: Int) -> ConnectionPool {
        ConnectionPool(database, limits: PoolLimits(maxConnections: connections), logger: Logger(label: "bench"))
    }
}
