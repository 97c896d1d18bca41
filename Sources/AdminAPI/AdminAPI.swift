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

/// The program admin-api, which serves the JSON API and the pages.
@main
struct AdminAPI: ServiceCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin-api",
        abstract: "Serves the JSON API under /api, and the pages under /dashboard.",
        discussion: "Configured by environment variables or .env; see .env.example.")

    @OptionGroup var flags: ServiceFlags

    func serve(_ settings: AdminSettings, _ logger: Logger, _ metrics: PrometheusRegistry) async throws {
        try await AdminService(settings: settings, logger: logger, metrics: metrics, now: { .now }).run()
    }
}

/// The service: its settings, and the parts that serve requests.
struct AdminService {
    let settings: AdminSettings
    let logger: Logger
    let metrics: PrometheusRegistry
    let now: @Sendable () -> Timestamp

    /// Serves until SIGTERM or SIGINT, and then finishes the requests that it has accepted.
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
        let application = try await buildApplication(queue: queue, pool: pool)
        try await ServiceRunner.run([pool, queue, application], logger: logger)
    }

    /// The HTTP server, without the services that it needs.
    ///
    /// - Throws: An error of NIOSSL when the certificate cannot be used; ``AppError`` `.unavailable` when the files of
    ///   the pages are missing.
    func buildApplication(
        queue: GroupCommit, pool: ConnectionPool
    ) async throws -> Application<RouterResponder<AppRequestContext>> {
        var server = HTTPServer(name: "admin-api", settings: settings.server, errorShape: .byPath)
        server.origins = settings.origins
        // Streams leave as many connections to other requests as there would be without them.
        server.settings.maxConnections += settings.streams.readers
        let database = Database(
            pool: pool, exportsAtOnce: settings.database.limits.maxConnections / 2,
            timeout: settings.server.idleTimeout)
        let live = LiveHub(database: database, limits: settings.streams, logger: logger, now: now)
        let authenticator = Authenticator(
            database: database, sessions: settings.sessions,
            pageCookie: PageCookie(
                hasTLS: settings.server.tls != nil, isBehindProxies: !settings.server.trustedProxies.isEmpty,
                lifetime: settings.pages?.lifetime ?? PageSettings.defaultLifetime),
            tokenLifetime: settings.tokenLifetime, tokenForm: settings.tokenForm, now: now)
        let signIn = SignInPolicy(
            registration: settings.registration, throttle: LoginThrottle(rate: settings.loginRate),
            passwords: PasswordQueue(), passwordCost: settings.passwordCost, tokenForm: settings.tokenForm)
        let routes = Routes(
            database: database, queue: queue, signIn: signIn, takesReports: settings.takesReports,
            isBehindProxies: !settings.server.trustedProxies.isEmpty,
            live: live)
        let requests = RouteServer(
            authenticator: authenticator, bodies: settings.bodies, deadline: settings.requestTimeout, now: now)
        let health = HealthController(check: { try await StartCheck.requireReady(.admin, pool) })
        var table = requests.serve(routes.all) + Routes.service(health: health, metrics: metrics)
        if let pages = settings.pages {
            table += try await servePages(pages, routes, authenticator, signIn, live)
        }
        return try server.buildApplication(table, logger: logger)
    }

    /// The routes of the pages.
    ///
    /// - Throws: ``AppError`` `.unavailable` when their files are missing.
    private func servePages(
        _ pages: PageSettings, _ routes: Routes, _ authenticator: Authenticator, _ signIn: SignInPolicy,
        _ live: LiveHub
    ) async throws -> [HTTPRoute] {
        let resources = try await PageResources.load(chartJS: pages.chartJS)
        if resources.assets[PageResources.chartLibrary] == nil {
            logger.warning(
                "the pages have no charts, only their tables: install Debian's libjs-chart.js, or set ADMIN_CHART_JS",
                metadata: ["file": "\(pages.chartJS)"])
        }
        let server = PageServer(
            authenticator: authenticator, resources: resources, prefix: pages.prefix, bodies: settings.bodies,
            deadline: settings.requestTimeout, live: live,
            operations: Dictionary(uniqueKeysWithValues: routes.all.map { ($0.operation.id, $0) }), now: now)
        return server.serve(
            PageTable(authenticator: authenticator, signIn: signIn, live: live, proxy: pages.proxy).pages)
    }
}
