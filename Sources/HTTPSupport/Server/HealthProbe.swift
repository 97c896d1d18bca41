package import Domain
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL

/// The question of a container's health check, asked from inside: does the service of this configuration answer?
package enum HealthProbe {
    private typealias Connection = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    /// Asks `/health/live`, not `/health/ready`: a proxy that drops an unready service answers 404 in its place, and the
    /// sender never sends again what met a 4xx; the service itself answers 503 while its database is away.
    /// - Throws: ``AppError`` `.unavailable` when the answer is not there `within` this time.
    package static func requireLive(
        _ settings: HTTPServerSettings, within limit: Duration = .seconds(3)
    ) async throws(AppError) {
        let host = loopback(for: settings.host)
        let isLive = try? await withDeadline(limit) { try await ask(host, settings) == .ok }
        guard isLive == true else {
            throw AppError(.unavailable, "no answer from /health/live on \(host):\(settings.port)")
        }
    }

    /// Where a service that listens on `host` hears its own machine.
    package static func loopback(for host: String) -> String {
        switch host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "::1"
        default: host
        }
    }

    private static func ask(_ host: String, _ settings: HTTPServerSettings) async throws -> HTTPResponseStatus? {
        // The certificate names the service's public address, not this one; nothing secret is said here.
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateVerification = .none
        let context = settings.tls == nil ? nil : try NIOSSLContext(configuration: tls)
        let connection = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: host, port: settings.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let context {
                        try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
                    }
                    try pipeline.addHTTPClientHandlers()
                    return try Connection(wrappingChannelSynchronously: channel)
                }
            }
        return try await connection.executeThenClose { inbound, outbound in
            let headers: HTTPHeaders = ["host": host, "connection": "close"]
            try await outbound.write(
                .head(HTTPRequestHead(version: .http1_1, method: .GET, uri: "/health/live", headers: headers)))
            try await outbound.write(.end(nil))
            for try await case .head(let head) in inbound { return head.status }
            return nil
        }
    }
}
