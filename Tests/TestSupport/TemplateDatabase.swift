internal import Crypto
internal import Domain
internal import Foundation
internal import Postgres
internal import Storage

/// The migrated database that others are cloned from, made once for each state of `migrations/`.
actor TemplateDatabase {
    static let shared = TemplateDatabase()

    private var making: Task<String, any Error>?

    /// Its name on `server`, once it is there.
    func name(on server: ConnectionConfiguration) async throws -> String {
        let task = making ?? Task { try await Self.make(on: server) }
        making = task
        return try await task.value
    }

    /// Built under a name of its own and then renamed: who comes second drops his, and a half-built one is never used.
    private static func make(on server: ConnectionConfiguration) async throws -> String {
        let migrations = try Migration.load(from: Checkout.migrations)
        let state = SHA256.hash(data: Data(migrations.map(\.checksum).joined().utf8)).lowercaseHex
        let name = "test_template_\(state.prefix(16))"
        let isThere = try await withPool(server) { pool in
            try await pool.withConnection { connection in
                try !connection.query("SELECT FROM pg_database WHERE datname = \(name)").isEmpty
            }
        }
        if isThere { return name }
        let draft = "test_draft_" + UUID().uuidString.lowercased().replacing("-", with: "_")
        try await onServer(server, "CREATE DATABASE \(draft) TEMPLATE template0")
        try await withPool(server.database(draft)) { pool in
            try await pool.withConnection { connection in
                _ = try Migrator(migrations: migrations).migrate(connection, now: UsageEvent.sampleTime)
            }
        }
        try await TestRoles.grant(on: server.database(draft))
        do {
            try await onServer(server, "ALTER DATABASE \(draft) RENAME TO \(name)")
        } catch let error as PostgresError where error.sqlState == "42P04" {
            try await onServer(server, "DROP DATABASE \(draft) WITH (FORCE)")
        }
        return name
    }
}
