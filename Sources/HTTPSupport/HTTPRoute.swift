package import Bootstrap
internal import Domain
package import HTTPTypes
package import Hummingbird

/// One line of a service's table of routes: method, path, who may ask, and the handler.
package struct HTTPRoute: Sendable {
    package typealias Handler = @Sendable (Request, AppRequestContext) async throws -> Response

    /// Who may ask.
    package enum Access: Sendable {
        /// Everyone, from any address and at any rate. An orchestrator that is refused would end a healthy process.
        case everyone
        /// Clients whose address is in `WEBHOOK_ALLOW` or its like, at any rate.
        case allowedAddresses
        /// Clients whose address is allowed, within the rate limit.
        case clients
        /// Of these clients, the holders of a webhook key.
        case webhookKey(WebhookKeys)

        /// The checks of the server that come before the route.
        var checks: Checks {
            switch self {
            case .everyone: .none
            case .allowedAddresses: .address
            case .clients, .webhookKey: .addressAndRate
            }
        }
    }

    /// What the server checks of a client, from nothing to everything.
    enum Checks {
        case none, address, addressAndRate
    }

    package let method: HTTPRequest.Method
    /// In OpenAPI's form, such as `/api/v1/logs/{id}`.
    package let path: String
    package let access: Access
    package let handler: Handler
    /// What answers the route in the handler's place, before the router.
    package let lane: Lane?

    package init(_ method: HTTPRequest.Method, _ path: String, _ access: Access, _ handler: @escaping Handler) {
        self.method = method
        self.path = path
        self.access = access
        self.handler = handler
        lane = nil
    }

    /// A route for `POST` that stays on its event loop. The router knows it for other methods only.
    package init(_ path: String, _ lane: Lane) {
        method = .post
        self.path = path
        access = .webhookKey(lane.keys)
        handler = { _, _ in throw AppError(.notFound, "The route is not served here.") }
        self.lane = lane
    }
}

extension Router<AppRequestContext> {
    /// Adds the routes that `checks` precede. The router puts a middleware before the routes that are added after it.
    func add(_ routes: [HTTPRoute], after checks: HTTPRoute.Checks) {
        for route in routes where route.access.checks == checks {
            if case .webhookKey(let keys) = route.access {
                group().add(middleware: WebhookAuthentication(keys: keys))
                    .on(RouterPath(route.path), method: route.method, use: route.handler)
            } else {
                on(RouterPath(route.path), method: route.method, use: route.handler)
            }
        }
    }
}
