package import Postgres

/// Which database a program uses, under Laravel's names, so that Laravel's `.env` serves unchanged (`design.md` §8).
package struct DatabaseSettings: Sendable {
    /// The database of the service.
    package var connection: ConnectionConfiguration
    /// The same database as a stronger role, for migrations.
    package var migration: ConnectionConfiguration
    package var limits: PoolLimits

    /// `DATABASE_URL` or Laravel's `DB_URL`, else `DB_HOST`, `DB_PORT`, `DB_DATABASE`, `DB_USERNAME` and `DB_PASSWORD` with
    /// the defaults of Laravel's `config/database.php`; `DB_SSLMODE`, `DB_SSLROOTCERT`, `DB_MAX_CONNECTIONS`,
    /// `DB_PREPARED_STATEMENTS` and `MIGRATE_DATABASE_URL`. Programs with a role of their own may have a URL of their own
    /// before all of these, so that one file serves them all.
    /// - Parameters:
    ///   - settings: Where the variables are; a malformed one is a problem there.
    ///   - applicationName: The program's name in `pg_stat_activity`.
    ///   - ownURL: The variable of the program's own URL, such as `WORKER_DATABASE_URL`.
    package init(reading settings: SettingsReader, applicationName: String, ownURL: String? = nil) {
        let separate = Self.separate(settings)
        let sslMode = settings.choice(
            "DB_SSLMODE", of: Dictionary(uniqueKeysWithValues: Self.sslModes.map { ($0, $0) }), default: "prefer")
        let sslRootCertificate = settings.string("DB_SSLROOTCERT")
        let preparesStatements = settings.bool("DB_PREPARED_STATEMENTS", default: true)
        let complete = { (configuration: ConnectionConfiguration) in
            var configuration = configuration
            configuration.applicationName = applicationName
            configuration.sslMode = configuration.sslMode ?? sslMode
            configuration.sslRootCertificate = configuration.sslRootCertificate ?? sslRootCertificate
            configuration.preparesStatements = preparesStatements
            return configuration
        }
        // Each is read: a malformed one is a problem, needed or not.
        let urls = [ownURL, "DATABASE_URL", "DB_URL"].compactMap(\.self).compactMap { Self.url($0, settings) }
        connection = complete(urls.first ?? separate)
        migration = Self.url("MIGRATE_DATABASE_URL", settings).map(complete) ?? connection
        // An index takes its time, and so does another process's migration.
        migration.statementTimeout = .zero
        limits = PoolLimits(maxConnections: settings.int("DB_MAX_CONNECTIONS", in: 1...100, default: 6))
    }

    /// PostgreSQL, "SSL Support", table 34.1.
    private static let sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

    private static func separate(_ settings: SettingsReader) -> ConnectionConfiguration {
        ConnectionConfiguration(
            host: settings.string("DB_HOST", default: "127.0.0.1"),
            port: settings.int("DB_PORT", in: 1...65535, default: 5432),
            database: settings.string("DB_DATABASE", default: "laravel"),
            user: settings.string("DB_USERNAME", default: "root"),
            password: settings.secret("DB_PASSWORD")?.reveal())
    }

    private static func url(_ name: String, _ settings: SettingsReader) -> ConnectionConfiguration? {
        guard let url = settings.secret(name) else { return nil }
        do {
            return try ConnectionConfiguration(url: url.reveal())
        } catch {
            // The driver's own words about a URL quote nothing of it.
            settings.reject(name, "is not usable: \((error as? PostgresError)?.message ?? "malformed")")
            return nil
        }
    }
}
