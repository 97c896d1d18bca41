package import Postgres

/// Which database a program uses, under Laravel's names, so that Laravel's `.env` serves unchanged.
package struct DatabaseSettings: Sendable {
    /// The database of the service.
    package var connection: ConnectionConfiguration
    /// The same database as a role with more rights, for migrations.
    package var migration: ConnectionConfiguration
    /// The limits of the connection pool.
    package var limits: PoolLimits

    /// The settings of the database. The defaults are those of Laravel's `config/database.php`.
    ///
    /// `ownURL` is the program's own URL, such as `WORKER_DATABASE_URL`. It wins over all others, so that one file can
    /// serve programs with different roles.
    package static func table(ownURL: String? = nil) -> SettingsTable {
        let own = ownURL.map { name in
            Setting(name, .secret, "The database as the role of this program; it wins over DATABASE_URL.")
        }
        return SettingsTable([own].compactMap(\.self)) + shared
    }

    private static let shared: SettingsTable = [
        Setting(
            "DATABASE_URL", .secret,
            "The database in one text, postgresql://user:password@host:port/database, with host:port,host:port for a "
                + "primary and its standbys; it wins over DB_HOST to DB_PASSWORD."),
        Setting("DB_URL", .secret, "Laravel's name for DATABASE_URL, which wins over it."),
        Setting(
            "DB_HOST", .text, default: "127.0.0.1",
            "The name or address of the database server, or the directory of its socket; with commas between a primary "
                + "and its standbys."),
        Setting("DB_PORT", .number(1...65535), default: "5432", "The port of the database server."),
        Setting("DB_DATABASE", .text, default: "laravel", "The database that Laravel uses."),
        Setting("DB_USERNAME", .text, default: "root", "The role with which the program connects."),
        Setting("DB_PASSWORD", .secret, "The password of that role."),
        Setting(
            "DB_SSLMODE", .word(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
            default: "prefer", "How the connection to PostgreSQL is encrypted, in libpq's words."),
        Setting(
            "DB_SSLROOTCERT", .text,
            "The PEM file of the authority for verify-ca and verify-full; libpq's default where it is empty."),
        Setting(
            "DB_PREPARED_STATEMENTS", .boolean, default: "true",
            "Whether statements are prepared; false for a pooler in transaction mode, such as PgBouncer."),
        Setting(
            "DB_MAX_CONNECTIONS", .number(1...100), default: "6",
            "How many connections one process opens at most."),
        Setting(
            "MIGRATE_DATABASE_URL", .secret,
            "The same database as a stronger role, for migrations; the program's own role where it is empty."),
    ]

    /// Reads the settings of ``table(ownURL:)``. A malformed one is a problem of `settings`, also where it is not
    /// needed. `applicationName` is the program's name in `pg_stat_activity`.
    package init(reading settings: SettingsReader, applicationName: String, ownURL: String? = nil) {
        let table = Self.table(ownURL: ownURL)
        let separate = Self.separate(settings, table)
        let sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"].map { ($0, $0) }
        let sslMode = settings.choice(table["DB_SSLMODE"], of: Dictionary(uniqueKeysWithValues: sslModes))
        let sslRootCertificate = settings.optionalString(table["DB_SSLROOTCERT"])
        let preparesStatements = settings.bool(table["DB_PREPARED_STATEMENTS"])
        let complete = { (configuration: ConnectionConfiguration) in
            var configuration = configuration
            configuration.applicationName = applicationName
            configuration.sslMode = configuration.sslMode ?? sslMode
            configuration.sslRootCertificate = configuration.sslRootCertificate ?? sslRootCertificate
            configuration.preparesStatements = preparesStatements
            return configuration
        }
        let names = [ownURL, "DATABASE_URL", "DB_URL"].compactMap(\.self)
        let urls = names.compactMap { Self.url(table[$0], settings) }
        connection = complete(urls.first ?? separate)
        migration = Self.url(table["MIGRATE_DATABASE_URL"], settings).map(complete) ?? connection
        // An index may take hours, and so may the migration of another process.
        migration.statementTimeout = .zero
        limits = PoolLimits(maxConnections: settings.int(table["DB_MAX_CONNECTIONS"]))
    }

    private static func separate(_ settings: SettingsReader, _ table: SettingsTable) -> ConnectionConfiguration {
        let port = settings.int(table["DB_PORT"])
        let hosts = settings.string(table["DB_HOST"]).split(separator: ",").map(String.init)
        var configuration = ConnectionConfiguration(
            host: hosts.first ?? "", port: port,
            database: settings.string(table["DB_DATABASE"]), user: settings.string(table["DB_USERNAME"]),
            password: settings.secret(table["DB_PASSWORD"])?.reveal())
        configuration.otherAddresses = hosts.dropFirst().map { ConnectionConfiguration.Address(host: $0, port: port) }
        return configuration
    }

    private static func url(_ setting: Setting, _ settings: SettingsReader) -> ConnectionConfiguration? {
        guard let url = settings.secret(setting) else { return nil }
        do {
            return try ConnectionConfiguration(url: url.reveal())
        } catch {
            // The driver's message about a URL contains no part of it.
            settings.reject(setting.name, "is not usable: \((error as? PostgresError)?.message ?? "malformed")")
            return nil
        }
    }
}
