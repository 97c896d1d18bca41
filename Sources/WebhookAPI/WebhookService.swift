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
    /// - Throws: ``MigrationError`` when the schema is behind, ``Installation/Mismatch`` when the database is not ours,
    ///   ``PrivilegeCheck/Refusal`` when the database role lacks a right on our schema.
    func run() async throws {
        let pool = ConnectionPool(
            settings.database.connection, limits: settings.database.limits, logger: logger)
        do {
            try await requireSchema(pool)
        } catch {
            await pool.close()
            throw error
        }
        let writer = EventWriter(pool: pool, now: now)
        let queue = GroupCommit(
            writer: writer, limits: GroupCommit.Limits(queuedEvents: settings.maxQueuedEvents))
        let upkeep: [any Service] = Upkeep.services(pool: pool, writer: writer, logger: logger, now: now)
        let application = try buildApplication(queue: queue, pool: pool)
        try await ServiceRunner.run([pool] + upkeep + [queue, application], logger: logger)
    }

    /// The gate: our schema must be current and the database ours. What Laravel's tables lack is told and survived, as
    /// events then wait in quarantine instead of being lost at the sender; so is what the role lacks there, or has too much.
    private func requireSchema(_ pool: ConnectionPool) async throws {
        let (findings, lacks, excess) = try await pool.withConnection { connection in
            let privileges = try PrivilegeCheck(connection)
            let lacks = try privileges.lacks(connection, for: .webhook)
            if lacks.contains(where: \.grant.isOurs) { throw PrivilegeCheck.Refusal(lacks) }
            try Migrator.requireCurrent(connection)
            try Installation.require(connection)
            return (try SchemaCheck.findings(connection), lacks, try privileges.excess(connection))
        }
        for lack in lacks { logger.error("the database role lacks a right", metadata: ["right": "\(lack)"]) }
        if !excess.isEmpty {
            logger.warning(
                "the database role is stronger than needed; 'codexflow grants' prints one that is not",
                metadata: ["role": "\(excess.joined(separator: ", "))"])
        }
        for finding in findings { logger.error("laravel's schema", metadata: ["finding": "\(finding)"]) }
    }

    /// The HTTP side, without the services it needs.
    func buildApplication(
        queue: GroupCommit, pool: ConnectionPool
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        let server = HTTPServer(
            name: "webhook-api", settings: settings.server, errorShape: .webhook, metrics: metrics,
            readiness: { try await pool.requireReady() })
        let controller = WebhookController(
            reader: settings.bodyReader, queue: queue, pool: pool, retention: settings.retention, now: now)
        let calls = CallController(reader: settings.bodyReader, pool: pool, now: now)
        return try server.buildApplication(logger: logger) { router in
            addRoutes(to: router, keys: settings.keys, webhook: controller, calls: calls)
        }
    }
}

extension ConnectionPool {
    /// Whether events could be committed now.
    ///
    /// - Throws: `AppError` `.unavailable` with words for a stranger.
    fileprivate func requireReady() async throws {
        do {
            _ = try await withConnection { try $0.query("SELECT 1") }
        } catch {
            throw AppError(.unavailable, "The database is unavailable.")
        }
    }
}
