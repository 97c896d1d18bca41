import Crypto
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// The filled database that every run begins with a copy of. It stays on the server for the next run, under a name made of
/// its size, its schema and ``Filling/edition``.
struct FilledDatabase: Sendable {
    /// The copy that a run works on.
    static let copy = "bench_run"
    private static let draft = "bench_draft"

    /// Without a statement timeout.
    let server: ConnectionConfiguration
    let rows: Int
    /// How many calls a user makes in a row.
    let burst: Int
    let log: @Sendable (String) -> Void

    /// Makes the copy, filling the original first where there is none, or `isFresh`.
    ///
    /// Throws `PostgresError`.
    func makeCopy(isFresh: Bool) async throws -> ConnectionConfiguration {
        let migrations = try Migration.load(from: Checkout.migrations)
        let contents = migrations.map(\.checksum).joined() + "\(Filling.edition)"
        let schema = SHA256.hash(data: Data(contents.utf8)).lowercaseHex.prefix(12)
        let original = "bench_\(rows)_\(burst > 1 ? "bursts_" : "")\(schema)"
        try await onServer(server, "DROP DATABASE IF EXISTS \(Self.copy) WITH (FORCE)")
        let existing = try await names()
        // Of another schema: they would never be copied again.
        for name in existing where (isFresh && name == original) || !name.hasSuffix("_\(schema)") {
            try await onServer(server, "DROP DATABASE \(name) WITH (FORCE)")
        }
        if isFresh || !existing.contains(original) { try await makeOriginal(original, migrations) }
        try await onServer(server, "CREATE DATABASE \(Self.copy) TEMPLATE \(original) STRATEGY file_copy")
        return server.database(Self.copy)
    }

    /// Throws `PostgresError`.
    func removeCopy() async throws {
        try await onServer(server, "DROP DATABASE IF EXISTS \(Self.copy) WITH (FORCE)")
    }

    private func names() async throws -> [String] {
        try await withPool(server) { pool in
            try await pool.withConnection { connection in
                try connection.query("SELECT datname FROM pg_database WHERE datname ~ '^bench_(\\d+_|draft)'")
                    .map { try $0.decode(0) }
            }
        }
    }

    /// Filled under a name of its own and then renamed: a half-filled one is never used.
    private func makeOriginal(_ name: String, _ migrations: [Migration]) async throws {
        try await onServer(server, "CREATE DATABASE \(Self.draft) TEMPLATE template0")
        try await withPool(server.database(Self.draft), connections: 2) { pool in
            _ = try await pool.withConnection { try Migrator(migrations: migrations).migrate($0, now: .now) }
            try await Filling(pool: pool, rows: rows, burst: burst, now: .now, log: log).fill()
        }
        try await onServer(server, "CHECKPOINT")
        try await onServer(server, "ALTER DATABASE \(Self.draft) RENAME TO \(name)")
    }
}
