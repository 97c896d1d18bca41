import Bootstrap
import HTTPSupport
import HTTPTypes

/// Every route of webhook-api: method, path, who may ask, and the handler.
///
/// A handler's name is also the `operationId` of its route in admin-api's `/openapi.json`.
struct Routes: Sendable {
    let all: [HTTPRoute]

    init(
        keys: WebhookKeys, webhook: Lane, calls: CallController, health: HealthController, metrics: PrometheusRegistry
    ) {
        all = [
            HTTPRoute("/api/webhook/litellm", webhook),
            HTTPRoute(.post, "/api/litellm/authorize", .webhookKey(keys), calls.authorizeKey),

            HTTPRoute(.get, "/health/live", .everyone, health.checkLiveness),
            HTTPRoute(.get, "/health/ready", .everyone, health.checkReadiness),
            HTTPRoute(.get, "/metrics", .allowedAddresses, metrics.getMetrics),
        ]
    }
}
