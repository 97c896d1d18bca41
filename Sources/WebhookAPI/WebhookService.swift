import Bootstrap
import Domain
import HTTPSupport
import Hummingbird
import Logging
import Postgres
import ServiceLifecycle
import Storage

/// The parts of the webhook service, put together.
struct WebhookService {
    let settings: WebhookSettings
    let logger: Logger
    let metrics: PrometheusRegistry
    let now: @Sendable () -> Timestamp

    /// Serves until SIGTERM or SIGINT; then answers what was taken.
    ///
    /// - Throws: ``MigrationError`` when the schema is outdated, ``Installation/Mismatch`` when the database is not
    ///   ours, ``PrivilegeCheck/Refusal`` when the database role lacks a right on our schema.
    func run() async throws {
        let pool = ConnectionPool(
            settings.database.connection, limits: settings.database.limits, logger: logger)
        do {
            try await StartCheck.require(.webhook, pool, logger: logger)
        } catch {
            await pool.close()
            throw error
        }
        let writer = EventWriter(pool: pool, now: now)
        let queue = GroupCommit(
            writer: writer, limits: GroupCommit.Limits(queuedEvents: settings.maxQueuedEvents))
        let jobs: [any Service] = BackgroundJobs.all(pool: pool, writer: writer, logger: logger, now: now)
        let application = try buildApplication(queue: queue, pool: pool)
        try await ServiceRunner.run([pool] + jobs + [queue, application], logger: logger)
    }

    /// The HTTP side, without the services it needs.
    func buildApplication(
        queue: GroupCommit, pool: ConnectionPool
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        let server = HTTPServer(
            name: "webhook-api", settings: settings.server, errorShape: .webhook, metrics: metrics,
            readiness: { try await StartCheck.requireReady(.webhook, pool) })
        let controller = WebhookController(
            reader: settings.bodyReader, queue: queue, pool: pool, retention: settings.retention,
            errorText: settings.errorText, now: now)
        let calls = CallController(reader: settings.bodyReader, pool: pool, now: now)
        return try server.buildApplication(logger: logger) { router in
            addRoutes(to: router, keys: settings.keys, webhook: controller, calls: calls)
        }
    }
}

/// Every route of the service; health and metrics come with the server.
func addRoutes(
    to router: Router<AppRequestContext>, keys: WebhookKeys, webhook: WebhookController, calls: CallController
) {
    router.group("/api/webhook")
        .add(middleware: WebhookAuthentication(keys: keys))
        .post("/litellm", use: webhook.receive)
    router.group("/api/litellm")
        .add(middleware: WebhookAuthentication(keys: keys))
        .post("/authorize", use: calls.authorize)
}
