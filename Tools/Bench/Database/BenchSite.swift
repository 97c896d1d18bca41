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

    /// Reads what a service that has run for an hour has in the system's cache: tables of which every row is wanted, and indexes
    /// that are written at as many places as there are users and names. A copy that was just made has them nowhere, and each
    /// measurement would begin with the disk.
    ///
    /// Throws `PostgresError`.
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

    /// A pool of its own for a benchmark that talks to the database by itself.
    func makePool(connections: Int) -> ConnectionPool {
        ConnectionPool(database, limits: PoolLimits(maxConnections: connections), logger: Logger(label: "bench"))
    }
}
