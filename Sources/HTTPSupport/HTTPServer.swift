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
                    ReceiveBufferHandler(), StalledReaderHandler(timeout: TimeAmount(settings.idleTimeout)),
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

/// Keeps what a connection buffers before anybody reads it small: the server holds up to ten reads of each connection, and
/// NIO's own reads grow to 64 KB, which on 64 busy connections is 40 MB outside every budget.
final class ReceiveBufferHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private static let bytes = 16 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        let allocator = FixedSizeRecvByteBufferAllocator(capacity: Self.bytes)
        _ = context.channel.setOption(.recvAllocator, value: allocator)
    }
}

/// Closes the connection of a client that takes nothing of its answer: whatever the answer holds is free again.
///
/// Asleep while clients read, so that it costs their answers nothing.
final class StalledReaderHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let timeout: TimeAmount
    private var check: Scheduled<Void>?

    init(timeout: TimeAmount) {
        self.timeout = timeout
    }

    /// What the system may hold for a client, which the handler does not see: by default megabytes, that a slow client takes
    /// minutes for.
    private static let sendBuffer = 256 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        _ = context.channel.setOption(.socketOption(.so_sndbuf), value: Self.sendBuffer)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { stop() } else if check == nil { scheduleCheck(context) }
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        stop()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        stop()
    }

    /// Looks in a while whether anything of what waits now was taken.
    private func scheduleCheck(_ context: ChannelHandlerContext) {
        guard let waiting = waiting(context) else { return }
        check = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
            check = nil
            if self.waiting(context) == waiting { context.close(promise: nil) } else { scheduleCheck(context) }
        }
    }

    /// The bytes that the client's side has not taken yet. While the channel is not writable they only become fewer.
    private func waiting(_ context: ChannelHandlerContext) -> Int? {
        try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)
    }

    private func stop() {
        check?.cancel()
        check = nil
    }
}

@available(*, unavailable)
extension StalledReaderHandler: Sendable {}
