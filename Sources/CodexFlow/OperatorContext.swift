import ArgumentParser
import Bootstrap
import Domain
import HTTPSupport
import Logging
import Postgres
import Storage

/// What every command of the operator shares: the time, the migrations, one database connection, and failures reported
/// in one line.
struct OperatorContext: Sendable {
    let now: Timestamp
    /// The begin of the names of this installation's database roles.
    let rolePrefix: String
    /// Where Laravel keeps its sessions, for the rights of admin-api.
    let sessions: SessionTable
    private let configuredMigrations: String?

    static let ownURL = "OPERATOR_DATABASE_URL"

    static let table: SettingsTable = [
        Setting(
            "MIGRATIONS_PATH", .text,
            "The folder of the migrations; migrations/ in the working directory, else above the program, where it is "
                + "empty."),
        Setting(
            "DB_ROLE_PREFIX", .form("a lowercase word of at most 40 letters, digits and _"), default: "codexflow",
            "What the names of the database roles begin with, as in codexflow_webhook."),
        LaravelSessions.sessionTable,
    ]

    /// Reads ``table``. ``now`` is the present time.
    init(reading settings: SettingsReader) {
        now = .now
        configuredMigrations = settings.optionalString(Self.table["MIGRATIONS_PATH"])
        rolePrefix = settings.parsed(Self.table["DB_ROLE_PREFIX"]) { GrantScript.isUsable(prefix: $0) ? $0 : nil }
        let table = settings.string(LaravelSessions.sessionTable)
        sessions = SessionTable(table) ?? .standard
        if SessionTable(table) == nil { settings.reject("SESSION_TABLE", SessionTable.rule) }
    }

    /// The folder of the migrations.
    var migrationsPath: String { MigrationsPath.resolve(configured: configuredMigrations) }

    /// Runs `body` with a connection of the program's role, or of the role of `MIGRATE_DATABASE_URL`.
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error.
    static func run<T: Sendable>(
        privileged: Bool = false, _ body: @escaping @Sendable (OperatorContext, Connection) throws -> T
    ) async throws -> T {
        try await withPool(privileged: privileged) { context, pool in
            try await pool.withConnection { try body(context, $0) }
        }
    }

    /// Runs `body` with a pool of one connection, like ``run(privileged:_:)``.
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error; an `ExitCode` that `body` throws.
    static func withPool<T: Sendable>(
        privileged: Bool = false, _ body: @escaping @Sendable (OperatorContext, ConnectionPool) async throws -> T
    ) async throws -> T {
        try await explainingFailure {
            let (database, context) = try SettingsReader.load().read { settings in
                (
                    DatabaseSettings(reading: settings, applicationName: "codexflow", ownURL: ownURL),
                    OperatorContext(reading: settings)
                )
            }
            return try await ConnectionPool.withPool(
                privileged ? database.migration : database.connection, limits: PoolLimits(maxConnections: 1),
                logger: Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() })
            ) { try await body(context, $0) }
        }
    }

    /// Runs `body` and reports its failure.
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error; an `ExitCode` that `body` throws.
    static func explainingFailure<T>(_ body: () async throws -> T) async throws -> T {
        try await CommandFailure.reported(by: "codexflow", body)
    }
}
