import Bootstrap
import HTTPSupport
import Hummingbird

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
