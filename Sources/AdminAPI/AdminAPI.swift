import ArgumentParser
import Bootstrap
import Domain
import HTTPSupport
import Hummingbird
import Logging
import Passwords
import Postgres
import ServiceLifecycle
import Storage

/// The JSON API: Laravel's dashboards, and what operators and finance ask.
@main
struct AdminAPI: ServiceCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin-api",
        abstract: "Serves the JSON API under /api.",
        discussion: "Configured by environment variables or .env; see .env.example.")

    @OptionGroup var flags: ServiceFlags

    func serve(_ settings: AdminSettings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws {
        try await AdminService(settings: settings, logger: logger, metrics: metrics, now: { .now }).run()
    }
}

/// The parts of the JSON API, put together.
struct AdminService {
    let settings: AdminSettings
    let logger: Logger
    let metrics: PrometheusRegistry
    let now: @Sendable () -> Timestamp

    /// Serves until SIGTERM or SIGINT; then answers what was taken.
    ///
    /// - Throws: What ``StartCheck`` throws.
    func run() async throws {
        let pool = ConnectionPool(settings.database.connection, limits: settings.database.limits, logger: logger)
        do {
            try await StartCheck.require(.admin, pool, logger: logger)
        } catch {
            await pool.close()
            throw error
        }
        if settings.sessions == nil {
            logger.notice("APP_KEY is not set: Laravel's session cookies are not accepted, only tokens")
        }
        let queue = GroupCommit(writer: EventWriter(pool: pool, now: now))
        let application = try buildApplication(queue: queue, pool: pool)
        try await ServiceRunner.run([pool, queue, application], logger: logger)
    }

    /// The HTTP side, without the services it needs.
    func buildApplication(
        queue: GroupCommit, pool: ConnectionPool
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        var server = HTTPServer(
            name: "admin-api", settings: settings.server, errorShape: .byPath, metrics: metrics,
            readiness: { try await StartCheck.requireReady(.admin, pool) })
        server.origins = settings.origins
        let database = Database(
            pool: pool, exportsAtOnce: settings.database.limits.maxConnections / 2,
            patience: settings.server.idleTimeout)
        let endpoints = EndpointServer(
            authenticator: Authenticator(
                database: database, sessions: settings.sessions, tokenLifetime: settings.tokenLifetime,
                tokenForm: settings.tokenForm, now: now),
            bodies: settings.bodies, deadline: settings.requestTimeout, now: now)
        let routes = Routes(
            database: database, queue: queue,
            signIn: SignInPolicy(
                registration: settings.registration, throttle: LoginThrottle(rate: settings.loginRate),
                passwords: PasswordQueue(), passwordCost: settings.passwordCost, tokenForm: settings.tokenForm),
            takesReports: settings.takesReports, isBehindProxies: !settings.server.trustedProxies.isEmpty)
        return try server.buildApplication(logger: logger) { router in endpoints.add(routes.all, to: router) }
    }
}

/// Everything that configures the JSON API (`design.md` §8).
struct AdminSettings: ServiceSettings {
    var server: HTTPServerSettings
    var origins: AllowedOrigins
    var database: DatabaseSettings
    var bodies: BodyReader
    /// `nil` where only tokens are accepted.
    var sessions: SessionReader?
    /// What strangers get who register.
    var registration: Registration.Mode
    /// Logins and registrations that one address may try in a minute.
    var loginRate: Int
    /// The binary logarithm of the rounds of a password's hash.
    var passwordCost: UInt
    /// How long a token lives after it was made; `nil` for ever.
    var tokenLifetime: Duration?
    /// How Sanctum writes its tokens.
    var tokenForm: AccessToken.Form
    /// Whether users may report usage themselves (`POST /api/usage/log`).
    var takesReports: Bool
    /// After which a request is answered 504.
    var requestTimeout: Duration
    var logLevel: Logger.Level

    init(reading settings: SettingsReader) {
        server = HTTPServerSettings(reading: settings, prefix: "ADMIN", defaultPort: 8082)
        origins = AllowedOrigins(reading: settings, prefix: "ADMIN")
        database = DatabaseSettings(reading: settings, applicationName: "admin-api", ownURL: "ADMIN_DATABASE_URL")
        let times = Duration.milliseconds(100) ... .seconds(600)
        database.connection.statementTimeout = settings.duration(
            "ADMIN_STATEMENT_TIMEOUT", in: times, default: .seconds(15))
        database.connection.lockTimeout = .seconds(5)
        bodies = BodyReader(
            reading: settings, prefix: "ADMIN", limit: 1 << 20, senders: .anyone, deadline: .seconds(10))
        sessions = SessionReader(reading: settings)
        let modes = Registration.Mode.allCases.map { ($0.rawValue, $0) }
        registration = settings.choice(
            "ADMIN_REGISTRATION", of: Dictionary(uniqueKeysWithValues: modes), default: "off")
        loginRate = settings.int("ADMIN_LOGIN_RATE", in: 1...100_000, default: 60)
        passwordCost = UInt(settings.int("BCRYPT_ROUNDS", in: 4...15, default: 12))
        let minutes = settings.int("SANCTUM_EXPIRATION", in: 0...52_560_000, default: 0)
        tokenLifetime = minutes == 0 ? nil : .seconds(60 * minutes)
        tokenForm = Self.tokenForm(settings)
        takesReports = settings.choice("ADMIN_USAGE_LOG", of: ["off": false, "on": true], default: "off")
        requestTimeout = settings.duration("ADMIN_REQUEST_TIMEOUT", in: times, default: .seconds(20))
        logLevel = settings.logLevel()
    }

    /// `SANCTUM_TOKENABLE_TYPE`, the aliases of users in Laravel's morph map; `AUTH_MODEL`, their class, which Laravel
    /// reads in its tokens beside an alias too; and `SANCTUM_TOKEN_PREFIX`.
    private static func tokenForm(_ settings: SettingsReader) -> AccessToken.Form {
        let model = settings.string("AUTH_MODEL", default: #"App\Models\User"#)
        let aliases = settings.string("SANCTUM_TOKENABLE_TYPE").map { $0.split(separator: ",") } ?? []
        let owners = (aliases + [model[...]]).map(\.trimmingSpaces).map { String($0.trimmingPrefix(#"\"#)) }
        if owners.contains(where: { $0.isEmpty || $0.utf8.count > 255 }) {
            settings.reject("SANCTUM_TOKENABLE_TYPE", "is not a list of classes or aliases, such as user")
        }
        return AccessToken.Form(owners: owners, prefix: settings.string("SANCTUM_TOKEN_PREFIX", default: ""))
    }
}
