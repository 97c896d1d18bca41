import Bootstrap
import CoreMetrics
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import InMemoryLogging
import Logging

/// A real server around a test's routes, with its logs and metrics at hand.
struct TestServer {
    let metrics = PrometheusRegistry()
    let logs = InMemoryLogHandler()
    var settings = HTTPServerSettings(port: 0)
    var errorShape = ErrorShape.laravel
    var readiness: HealthController.ReadinessCheck = { [] }
    var now: @Sendable () -> ContinuousClock.Instant = { .now }

    /// Runs `body` against the server; without sockets unless `setup` says so.
    func test<T>(
        _ setup: TestingSetup = .router, routes: [HTTPRoute] = [],
        _ body: @Sendable (any TestClientProtocol) async throws -> T
    ) async throws -> T {
        var server = HTTPServer(name: "test", settings: settings, errorShape: errorShape)
        server.now = now
        let health = HealthController(check: readiness, now: now)
        let standard = [
            HTTPRoute(.get, "/health/live", .everyone, health.checkLiveness),
            HTTPRoute(.get, "/health/ready", .everyone, health.checkReadiness),
            HTTPRoute(.get, "/metrics", .allowedAddresses, metrics.getMetrics),
        ]
        let app = try server.buildApplication(standard + routes, logger: Logger(label: "test") { _ in logs })
        return try await withMetricsFactory(metrics) { try await app.test(setup, body) }
    }

    /// The access log so far, without the request ids.
    var requestLines: [Logger.Metadata] {
        logs.entries.filter { $0.message == "request" && $0.level == .info }.map { entry in
            entry.metadata.filter { $0.key != "hb.request.id" }
        }
    }
}

extension HTTPRoute {
    /// A route for every client that answers whatever Hummingbird can send.
    init<Output: ResponseGenerator>(
        _ method: HTTPRequest.Method, _ path: String, access: Access = .clients,
        _ answer: @escaping @Sendable (Request, AppRequestContext) async throws -> Output
    ) {
        self.init(method, path, access) { request, context in
            try await answer(request, context).response(from: request, context: context)
        }
    }
}

extension TestResponse {
    /// The body as text.
    var text: String { String(buffer: body) }
}
