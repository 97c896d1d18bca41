package import Bootstrap
internal import HTTPTypes
package import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
package import Logging
internal import NIOCore
internal import NIOSSL

/// One HTTP service: what every service of this project has around its own routes.
package struct HTTPServer: Sendable {
    /// The program's name, also in the header `Server`.
    package var name: String
    package var settings: HTTPServerSettings
    package var errorShape: ErrorShape
    /// Whose pages may read answers.
    package var origins = AllowedOrigins.any
    package var metrics: PrometheusRegistry
    /// What `/health/ready` asks.
    package var readiness: HealthRoutes.ReadinessCheck
    /// The time by which rates are limited and readiness is remembered.
    package var now: @Sendable () -> ContinuousClock.Instant = { .now }

    package init(
        name: String, settings: HTTPServerSettings, errorShape: ErrorShape = .laravel, metrics: PrometheusRegistry,
        readiness: @escaping HealthRoutes.ReadinessCheck
    ) {
        self.name = name
        self.settings = settings
        self.errorShape = errorShape
        self.metrics = metrics
        self.readiness = readiness
    }

    /// The routes that `addRoutes` adds, with health and metrics beside them and the house's middleware around all.
    ///
    /// Health stands before the allow-list and, with metrics, before the rate limit: an orchestrator that is refused would end
    /// a healthy process.
    package func buildRouter(_ addRoutes: (Router<AppRequestContext>) -> Void) -> Router<AppRequestContext> {
        let router = Router(context: AppRequestContext.self, options: [.autoGenerateHeadEndpoints])
        router.add(middleware: ClientAddressMiddleware(trusting: settings.trustedProxies))
        router.add(middleware: AccessLogMiddleware())
        router.add(middleware: HeadersMiddleware(origins: origins))
        router.add(middleware: ErrorMiddleware(shape: errorShape))
        HealthRoutes(check: readiness, now: now).add(to: router)
        if !settings.allowedAddresses.isEmpty {
            router.add(middleware: AllowListMiddleware(settings.allowedAddresses))
        }
        MetricsRoute(metrics).add(to: router)
        if let limit = settings.rateLimit {
            let limiter = RateLimiter<IPAddress>(rate: Double(limit.rate), burst: limit.burst, now: now)
            router.add(middleware: RateLimitMiddleware(limiter))
        }
        addRoutes(router)
        router.answerOtherMethods()
        return router
    }

    /// The least that is spoken is TLS 1.2: the versions before it are forbidden (RFC 8996).
    private static func hardened(_ tls: TLSConfiguration) -> TLSConfiguration {
        var tls = tls
        if tls.minimumTLSVersion != .tlsv13 { tls.minimumTLSVersion = .tlsv12 }
        return tls
    }

    /// The service, ready to be run; it logs `Server started and listening on host:port` with the real port.
    /// - Parameters:
    ///   - logger: The program's logger; each request's lines carry its id.
    ///   - onListening: Takes the real port.
    ///   - addRoutes: Adds the service's own routes.
    /// - Returns: A service for `ServiceRunner`.
    /// - Throws: An error of NIOSSL when the certificate cannot be used.
    package func buildApplication(
        logger: Logger, onListening: @escaping @Sendable (Int) async -> Void = { _ in },
        _ addRoutes: (Router<AppRequestContext>) -> Void
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        let channel = HTTPServerBuilder.http1(
            configuration: .init(
                additionalChannelHandlers: [
                    ReceiveBufferHandler(), StalledReaderHandler(patience: TimeAmount(settings.idleTimeout)),
                ],
                idleTimeout: TimeAmount(settings.idleTimeout)))
        return Application(
            router: buildRouter(addRoutes),
            server: try settings.tls.map { try .tls(channel, tlsConfiguration: Self.hardened($0)) } ?? channel,
            configuration: ApplicationConfiguration(
                address: .hostname(settings.host, port: settings.port), serverName: name,
                availableConnectionsDelegate: .maximum(settings.maxConnections, logger: logger)),
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: logger)
    }
}
