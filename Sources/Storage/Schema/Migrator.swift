import Crypto
package import Domain
import Foundation
package import Postgres

/// One file of `migrations/`: a numbered step of the schema that never changes.
package struct Migration: Sendable, Hashable {
    /// The number.
    package let version: Int
    /// `NNNN_what`, the file's name without `.sql`.
    package let name: String
    /// The text of the file.
    package let sql: String
    /// SHA-256 of the file, hexadecimal.
    package let checksum: String

    /// Whether the file is one statement that PostgreSQL refuses inside a transaction, such as `CREATE INDEX
    /// CONCURRENTLY`.
    package var runsOutsideTransaction: Bool { sql.contains("-- migrate: no-transaction") }

    /// The migrations of a directory in the order of their numbers.
    ///
    /// - Throws: ``MigrationError`` when the directory is missing or empty, a name is not `NNNN_what.sql`, or a number
    ///   is missing or used twice.
    package static func load(from directory: String) throws -> [Migration] {
        guard let entries = try? FileManager.default.contentsOfDirectory(atPath: directory) else {
            throw MigrationError.directoryMissing(directory)
        }
        let migrations = try entries.filter { $0.hasSuffix(".sql") }.sorted().map { file in
            try Migration(file: file, in: directory)
        }
        guard !migrations.isEmpty else { throw MigrationError.directoryMissing(directory) }
        for (index, migration) in migrations.enumerated() where migration.version != index + 1 {
            throw MigrationError.misnumbered(migration.name)
        }
        return migrations
    }

    /// Whether the file is unchanged since it was applied with `checksum`.
    package func isUnchanged(since checksum: String) -> Bool {
        self.checksum == checksum || Self.reworded[version] == checksum
    }

    /// Former checksums of files whose comments were changed to ASCII. A comment with other characters had stopped a
    /// migration of a database with another encoding.
    private static let reworded = [
        1: "580d186e013b86335292d0296b4d67b63d2438fce455c39f1c073a89a37ce1c7",
        3: "1bb3b7a7ef70e8c51b2b866670a8395322a7c7ce46cf4fad28e5134d7e3a88e5",
        10: "5d79303d3ff9fe90fa12c7de7672cd3490765c794623aff42f830814c7536630",
        13: "1d8015904cda81baf71af1e60eebe4c129b5b5c646bfdfe800f8ca423fa863f2",
        14: "d1f8117b2e5eefbf84cfb4ec2e4708382dd0a6974fb6a1dca82b42710581a363",
    ]

    private init(file: String, in directory: String) throws {
        let name = String(file.dropLast(4))
        guard let version = Int(name.prefix(4)), name.dropFirst(4).hasPrefix("_"),
            let data = FileManager.default.contents(atPath: "\(directory)/\(file)")
        else { throw MigrationError.misnumbered(name) }
        self.version = version
        self.name = name
        sql = String(decoding: data, as: UTF8.self)
        checksum = SHA256.hash(data: data).lowercaseHex
    }
}

/// Why the schema is not at the version that this build needs, or cannot be migrated to it.
package enum MigrationError: Error, Hashable, CustomStringConvertible {
    case directoryMissing(String)
    case misnumbered(String)
    case changed(String)
    case unknownVersion(Int)
    case outdated(applied: Int, required: Int)

    package var description: String {
        switch self {
        case .directoryMissing(let directory):
            "No migrations in '\(directory)'. Set MIGRATIONS_PATH to the project's migrations folder."
        case .misnumbered(let name):
            "Migration '\(name)' is not named NNNN_what.sql with the next number."
        case .changed(let name):
            "Migration '\(name)' was changed after it was applied. Restore the file and put the change into a new one."
        case .unknownVersion(let version):
            "The database has migration \(version), which this version does not know. Use the newer version."
        case .outdated(let applied, let required):
            "The database schema is at \(applied), this version needs \(required). Run 'codexflow migrate'."
        }
    }
}

/// The folder of the migrations.
package enum MigrationsPath {
    /// The folder of `MIGRATIONS_PATH`; else `migrations` in the working directory; else the nearest folder
    /// `migrations` above the executable, which may have been found in `PATH`.
    package static func resolve(
        configured: String?, executable: String = "/proc/self/exe"
    ) -> String {
        if let configured, !configured.isEmpty { return configured }
        let manager = FileManager.default
        var candidates = ["migrations"]
        var folder = URL(fileURLWithPath: executable).resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.path != "/", candidates.count < 8 {
            candidates.append(folder.appendingPathComponent("migrations").path)
            folder.deleteLastPathComponent()
        }
        return candidates.first { manager.fileExists(atPath: $0) } ?? "migrations"
    }
}

/// Migrates a database to the schema that this build needs. It may run twice, and in several processes at once.
package struct Migrator: Sendable {
    /// The version that the code of this build needs: the highest number in `migrations/`.
    package static let requiredVersion = 23
    /// Key of the session advisory lock that makes concurrent runs wait for each other ("metering" in ASCII).
    private static let lockKey: Int64 = 0x6D65_7465_7269_6E67

    /// The migrations in the order of their numbers.
    package let migrations: [Migration]

    /// A migrator with these files.
    package init(migrations: [Migration]) {
        self.migrations = migrations
    }

    /// Applies the missing migrations, each in its own transaction with its record, and returns them.
    ///
    /// If Laravel has history, the counters begin with what Laravel had counted.
    ///
    /// - Throws: ``Encoding/Refusal`` when the database is not UTF8, before anything is changed; ``MigrationError``
    ///   when an applied file was changed or is unknown here; ``PostgresError`` when SQL fails, of SQLSTATE 55P03 when
    ///   another transaction held a lock for 5 s: run it again.
    package func migrate(_ connection: Connection, now: Timestamp) throws -> [Migration] {
        try Encoding.require(connection)
        try requireSight(connection)
        try connection.execute("SELECT pg_advisory_lock(\(Self.lockKey))")
        defer { _ = try? connection.execute("SELECT pg_advisory_unlock(\(Self.lockKey))") }
        try connection.executeScript(
            """
            CREATE SCHEMA IF NOT EXISTS metering;
            CREATE TABLE IF NOT EXISTS metering.schema_migrations (
                version integer PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL
            )
            """)
        let pending = try pendingMigrations(connection)
        for migration in pending {
            try apply(migration, connection, now: now)
        }
        try Installation.recordIfNew(connection, now: now)
        try EventPartitions.ensure(connection, now: now)
        return pending
    }

    /// Refuses row-level security that hides logs: what Laravel has counted is read only once, at the first migration.
    private func requireSight(_ connection: Connection) throws {
        let user = try connection.query("SELECT current_user::text")[0].decode(0, as: String.self)
        let findings = try RowSecurity.findings(connection, for: [.init(user: user, role: .owner)])
        if !findings.isEmpty { throw StartCheck.Blindness(findings) }
    }

    /// The migrations that are not applied yet. Changes nothing.
    ///
    /// - Throws: ``MigrationError`` when an applied file was changed or is unknown here.
    package func pendingMigrations(_ connection: Connection) throws -> [Migration] {
        let exists = try connection.query("SELECT to_regclass('metering.schema_migrations') IS NOT NULL")
        guard try exists.first?.decode(0, as: Bool.self) == true else { return migrations }
        let rows = try connection.query("SELECT version, checksum FROM metering.schema_migrations ORDER BY version")
        var applied: Set<Int> = []
        for row in rows {
            let (version, checksum) = try row.decode(Int.self, String.self)
            guard let migration = migrations.first(where: { $0.version == version }) else {
                throw MigrationError.unknownVersion(version)
            }
            guard migration.isUnchanged(since: checksum) else { throw MigrationError.changed(migration.name) }
            applied.insert(version)
        }
        return migrations.filter { !applied.contains($0.version) }
    }

    /// Checks the version of the schema at the start of a service.
    ///
    /// - Throws: ``MigrationError/outdated(applied:required:)`` or ``MigrationError/unknownVersion(_:)``.
    package static func requireCurrent(_ connection: Connection) throws {
        let exists = try connection.query("SELECT to_regclass('metering.schema_migrations') IS NOT NULL")
        guard try exists.first?.decode(0, as: Bool.self) == true else {
            throw MigrationError.outdated(applied: 0, required: requiredVersion)
        }
        let rows = try connection.query("SELECT coalesce(max(version), 0) FROM metering.schema_migrations")
        let applied = try rows.first?.decode(0, as: Int.self) ?? 0
        guard applied >= requiredVersion else {
            throw MigrationError.outdated(applied: applied, required: requiredVersion)
        }
        guard applied == requiredVersion else { throw MigrationError.unknownVersion(applied) }
    }

    private func apply(_ migration: Migration, _ connection: Connection, now: Timestamp) throws {
        let record: Query = """
            INSERT INTO metering.schema_migrations (version, name, checksum, applied_at)
            VALUES (\(migration.version), \(migration.name), \(migration.checksum), \(now))
            """
        if migration.runsOutsideTransaction {
            try connection.executeScript(migration.sql)
            try connection.execute(record)
        } else {
            try connection.transaction { connection in
                // While another transaction holds a lock, our waiting request blocks every later reader, so it waits
                // only 5 s.
                try connection.executeScript("SET LOCAL lock_timeout = '5s'")
                try connection.executeScript(migration.sql)
                try connection.execute(record)
            }
        }
    }
}

/// The partitions of `metering.events`, one for each month. Events of other months go to the default partition.
package enum EventPartitions {
    /// The number of months after the present one, and before it for late events.
    private static let ahead: Int64 = 12
    private static let monthsBefore: Int64 = 13

    /// Creates the missing partitions around `now`. Months that `prune` would drop again, after `retentionDays`, are
    /// not created.
    ///
    /// Each month is a transaction and waits at most 5 s for a lock. While `pg_dump` holds it, ingest waits until ours
    /// is granted or given up.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a lock was not free. Months that were created before stay.
    package static func ensure(_ connection: Connection, now: Timestamp, retentionDays: Int = .max) throws {
        for month in -min(monthsBefore, Int64(retentionDays / 31))...ahead {
            try connection.transaction { connection in
                try connection.executeScript("SET LOCAL lock_timeout = '5s'")
                try connection.execute(
                    """
                    SELECT metering.create_events_partition(
                        (date_trunc('month', \(now) AT TIME ZONE 'UTC') + \(month)::bigint * interval '1 month')::date)
                    """)
            }
        }
    }
}
