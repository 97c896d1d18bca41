package import Domain
package import Postgres

/// Brings a database to the schema this build needs; safe to run twice and from several processes at once.
package struct Migrator: Sendable {
    /// The version that the code of this build needs: the highest number in `migrations/`.
    package static let requiredVersion = 20
    /// Key of the session advisory lock that makes concurrent runs wait for each other ("metering" in ASCII).
    private static let lockKey: Int64 = 0x6D65_7465_7269_6E67

    package let migrations: [Migration]

    package init(migrations: [Migration]) {
        self.migrations = migrations
    }

    /// Applies what is missing, each file in its own transaction with its record, and returns what was applied.
    ///
    /// On a database with Laravel's history the counters begin with what Laravel had counted.
    ///
    /// - Throws: ``Encoding/Refusal`` when the database is not UTF8, before anything is changed; ``MigrationError`` when an
    ///   applied file was changed or is unknown here; ``PostgresError`` when SQL fails, of
    ///   SQLSTATE 55P03 when somebody held a lock for 5 s: run it again.
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

    /// What Laravel has counted is read once, at the first migration: not through a policy that hides a part of it.
    private func requireSight(_ connection: Connection) throws {
        let user = try connection.query("SELECT current_user::text")[0].decode(0, as: String.self)
        let findings = try RowSecurity.findings(connection, for: [.init(user: user, role: .owner)])
        if !findings.isEmpty { throw StartCheck.Blindness(findings) }
    }

    /// The state of the schema: what is applied and what is missing. Changes nothing.
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

    /// The gate at the start of a service.
    ///
    /// - Throws: ``MigrationError/behind(applied:required:)`` or ``MigrationError/unknownVersion(_:)``.
    package static func requireCurrent(_ connection: Connection) throws {
        let exists = try connection.query("SELECT to_regclass('metering.schema_migrations') IS NOT NULL")
        guard try exists.first?.decode(0, as: Bool.self) == true else {
            throw MigrationError.behind(applied: 0, required: requiredVersion)
        }
        let rows = try connection.query("SELECT coalesce(max(version), 0) FROM metering.schema_migrations")
        let applied = try rows.first?.decode(0, as: Int.self) ?? 0
        guard applied >= requiredVersion else {
            throw MigrationError.behind(applied: applied, required: requiredVersion)
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
                // A lock that somebody holds must not queue every reader behind us.
                try connection.executeScript("SET LOCAL lock_timeout = '5s'")
                try connection.executeScript(migration.sql)
                try connection.execute(record)
            }
        }
    }
}
