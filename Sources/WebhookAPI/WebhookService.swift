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
        let lane = buildLane(queue: queue, pool: pool)
        let application = try buildApplication(lane, pool: pool)
        do {
            try await ServiceRunner.run([pool] + jobs + [queue, application], logger: logger)
        } catch {
            await lane.flush()
            throw error
        }
        await lane.flush()
    }

    /// The webhook, whose access log goes to `write`.
    func buildLane(
        queue: GroupCommit, pool: ConnectionPool, write: LineBuffer.Write? = Telemetry.writeToStandardError
    ) -> Lane {
        let webhook = Webhook(
            queue: queue, pool: pool, retention: settings.retention, errorText: settings.errorText, now: now)
        return Lane(keys: settings.keys, bodies: settings.bodyReader, write: write) { eventLoop in
            WebhookLane(webhook, on: eventLoop)
        }
    }

    /// The HTTP side, without the services it needs.
    func buildApplication(
        _ lane: Lane, pool: ConnectionPool
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        let server = HTTPServer(name: "webhook-api", settings: settings.server, errorShape: .webhook)
        let health = HealthController(check: { try await StartCheck.requireReady(.webhook, pool) })
        let calls = CallController(reader: settings.bodyReader, pool: pool, now: now)
        let routes = Routes(keys: settings.keys, webhook: lane, calls: calls, health: health, metrics: metrics)
        return try server.buildApplication(routes.all, logger: logger)
    }
}
