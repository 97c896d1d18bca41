internal import Bootstrap
internal import HTTPTypes
package import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
package import Logging
internal import NIOCore
internal import NIOSSL

/// An HTTP service: what every service has around its table of routes.
package struct HTTPServer: Sendable {
    /// The program's name, also in the header `Server`.
    package var name: String
    /// Address, TLS, limits and clients.
    package var settings: HTTPServerSettings
    /// The form of errors.
    package var errorShape: ErrorShape
    /// The origins whose pages may read answers.
    package var origins = AllowedOrigins.any
    /// The clock of rate limits.
    package var now: @Sendable () -> ContinuousClock.Instant = { .now }

    /// A server with these values.
    package init(name: String, settings: HTTPServerSettings, errorShape: ErrorShape = .laravel) {
        self.name = name
        self.settings = settings
        self.errorShape = errorShape
    }

    /// `routes`, each after the checks of its ``HTTPRoute/Access``, with the common middleware.
    private func buildRouter(_ routes: [HTTPRoute], _ clients: ClientChecks) -> Router<AppRequestContext> {
        let router = Router(context: AppRequestContext.self, options: [.autoGenerateHeadEndpoints])
        router.add(middleware: clients.address)
        router.add(middleware: AccessLogMiddleware())
        router.add(middleware: HeadersMiddleware(origins: origins))
        router.add(middleware: ErrorMiddleware(shape: errorShape))
        router.add(routes, after: .none)
        if let allowed = clients.allowed { router.add(middleware: allowed) }
        router.add(routes, after: .address)
        if let limiter = clients.limiter { router.add(middleware: limiter) }
        router.add(routes, after: .addressAndRate)
        router.answerOtherMethods()
        return router
    }

    private func buildClientChecks() -> ClientChecks {
        ClientChecks(
            address: ClientAddressMiddleware(trusting: settings.trustedProxies),
            allowed: settings.allowedAddresses.isEmpty ? nil : AllowListMiddleware(settings.allowedAddresses),
            limiter: settings.rateLimit.map { limit in
                RateLimitMiddleware(RateLimiter(rate: Double(limit.rate), burst: limit.burst, now: now))
            })
    }

    /// What a connection has besides Hummingbird's own handlers. A lane closes silent connections itself, because
    /// Hummingbird does not see its requests.
    private func connectionHandlers(
        _ lane: HTTPRoute?, _ clients: ClientChecks, _ logger: Logger
    ) -> HTTP1Channel.Configuration {
        let stalled = TimeAmount(settings.idleTimeout)
        guard let path = lane?.path, let lane = lane?.lane else {
            return .init(
                additionalChannelHandlers: [ReceiveBufferHandler(), StalledReaderHandler(timeout: stalled)],
                idleTimeout: stalled)
        }
        let server = LaneServer(
            name: name, path: path, idleTimeout: settings.idleTimeout, clients: clients,
            headers: HeadersMiddleware(origins: origins), errorShape: errorShape, logger: logger)
        return .init(additionalChannelHandlers: [
            ReceiveBufferHandler(), StalledReaderHandler(timeout: stalled), LaneInstaller(lane, server),
        ])
    }

    /// At least TLS 1.2. RFC 8996 forbids older versions.
    private static func hardened(_ tls: TLSConfiguration) -> TLSConfiguration {
        var tls = tls
        if tls.minimumTLSVersion != .tlsv13 { tls.minimumTLSVersion = .tlsv12 }
        return tls
    }

    /// The service, ready to run. It logs `Server started and listening on host:port` with the actual port.
    ///
    /// - Parameters:
    ///   - routes: The table of routes, with one lane at most.
    ///   - logger: The program's logger. Each line of a request carries its id.
    ///   - onListening: Receives the actual port.
    /// - Returns: A service for `ServiceRunner`.
    /// - Throws: An error of NIOSSL when the certificate cannot be used.
    package func buildApplication(
        _ routes: [HTTPRoute], logger: Logger, onListening: @escaping @Sendable (Int) async -> Void = { _ in }
    ) throws -> Application<RouterResponder<AppRequestContext>> {
        let clients = buildClientChecks()
        let lane = routes.first { $0.lane != nil }
        let channel = HTTPServerBuilder.http1(configuration: connectionHandlers(lane, clients, logger))
        return Application(
            router: buildRouter(routes, clients),
            server: try settings.tls.map { try .tls(channel, tlsConfiguration: Self.hardened($0)) } ?? channel,
            configuration: ApplicationConfiguration(
                address: .hostname(settings.host, port: settings.port), serverName: name,
                availableConnectionsDelegate: .maximum(settings.maxConnections, logger: logger)),
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: logger)
    }
}

/// What a server checks of a client before a route. The router and a lane share it.
struct ClientChecks: Sendable {
    let address: ClientAddressMiddleware
    /// `nil` where every address is allowed.
    let allowed: AllowListMiddleware?
    /// `nil` where no rate is configured.
    let limiter: RateLimitMiddleware?
}

/// Limits what a connection buffers before it is read. The server holds up to ten reads of each connection. NIO's own
/// reads grow to 64 KB, which is 40 MB for 64 busy connections, outside every budget.
final class ReceiveBufferHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private static let bytes = 16 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        let allocator = FixedSizeRecvByteBufferAllocator(capacity: Self.bytes)
        _ = context.channel.setOption(.recvAllocator, value: allocator)
    }
}

/// Closes the connection of a client that takes nothing of its answer, so that the answer's resources are free again.
///
/// It does nothing while clients read, so it costs them nothing.
final class StalledReaderHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let timeout: TimeAmount
    private var check: Scheduled<Void>?

    init(timeout: TimeAmount) {
        self.timeout = timeout
    }

    /// The send buffer of the socket. The handler does not see it, and by default it holds megabytes, which a slow
    /// client takes minutes to read.
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

    /// Checks after the timeout whether the client has taken any of the waiting bytes.
    private func scheduleCheck(_ context: ChannelHandlerContext) {
        guard let waiting = waiting(context) else { return }
        check = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
            check = nil
            if self.waiting(context) == waiting { context.close(promise: nil) } else { scheduleCheck(context) }
        }
    }

    /// The bytes that the socket has not taken yet. While the channel is not writable, their number only falls.
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
