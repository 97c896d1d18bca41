import Bootstrap
import HTTPSupport
import Hummingbird

/// Every route of the service; health and metrics come with the server.
func addRoutes(to router: Router<AppRequestContext>, keys: WebhookKeys, webhook: WebhookController) {
    router.group("/api/webhook")
        .add(middleware: WebhookAuthentication(keys: keys))
        .post("/litellm", use: webhook.receive)
}
