import Bootstrap
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// Every route of `aggregation-worker run`: method, path, who may ask, and the handler.
struct Routes: Sendable {
    let all: [HTTPRoute]

    init(health: HealthController, metrics: PrometheusRegistry) {
        all = [
            HTTPRoute(.get, "/health/live", .everyone, health.checkLiveness),
            HTTPRoute(.get, "/health/ready", .everyone, health.checkReadiness),
            HTTPRoute(.get, "/metrics", .allowedAddresses, metrics.getMetrics),
        ]
    }
}

extension WorkerContext {
    /// The server of health and metrics; `nil` where no port is set for it.
    ///
    /// - Throws: Nothing without TLS, which the worker does not have.
    func buildServer() throws -> Application<RouterResponder<AppRequestContext>>? {
        try settings.server.map { server in
            let health = HealthController(check: { [pool] in try await StartCheck.requireReady(.worker, pool) })
            return try HTTPServer(name: "aggregation-worker", settings: server, errorShape: .problem)
                .buildApplication(Routes(health: health, metrics: metrics).all, logger: logger)
        }
    }
}
