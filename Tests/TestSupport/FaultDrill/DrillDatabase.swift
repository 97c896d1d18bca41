internal import Domain
internal import Foundation
internal import Postgres
internal import Storage

/// The database that a drill's services write to.
enum DrillDatabase {
    /// Makes it, with every migration. Throws `PostgresError`, `Command.Failure`.
    static func make(in cluster: PostgresCluster) async throws -> ConnectionConfiguration {
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

    /// Makes `count` users as Laravel would, of all plans, every seventh suspended. Throws `PostgresError`.
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
