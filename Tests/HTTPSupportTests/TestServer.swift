import Bootstrap
import CoreMetrics
import HTTPSupport
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
    var readiness: HealthRoutes.ReadinessCheck = { [] }
    var now: @Sendable () -> ContinuousClock.Instant = { .now }

    /// Runs `body` against the server; without sockets unless `setup` says so.
    func test<T>(
        _ setup: TestingSetup = .router, routes: (Router<AppRequestContext>) -> Void = { _ in },
        _ body: @Sendable (any TestClientProtocol) async throws -> T
    ) async throws -> T {
        var server = HTTPServer(
            name: "test", settings: settings, errorShape: errorShape, metrics: metrics, readiness: readiness)
        server.now = now
        let app = try server.buildApplication(logger: Logger(label: "test") { _ in logs }, routes)
        return try await withMetricsFactory(metrics) { try await app.test(setup, body) }
    }

    /// The access log so far, without the request ids.
    var requestLines: [Logger.Metadata] {
        logs.entries.filter { $0.message == "request" && $0.level == .info }.map { entry in
            entry.metadata.filter { $0.key != "hb.request.id" }
        }
    }
}

extension TestResponse {
    /// The body as text.
    var text: String { String(buffer: body) }
}
