package import Bootstrap
internal import HTTPTypes
package import Hummingbird

/// Finds who sent a request that came through proxies.
///
/// `X-Forwarded-For` counts only as far as trusted proxies wrote it: it is read from the right, past trusted addresses, and
/// the first other one is the client. What stands left of it anybody may have invented.
package struct ClientAddressMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let trusted: [CIDR]

    /// - Parameter trusted: The proxies; with none, the connection's other end is the client.
    package init(trusting trusted: [CIDR]) {
        self.trusted = trusted
    }

    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        guard !trusted.isEmpty, let peer = context.clientAddress else { return try await next(request, context) }
        var context = context
        context.clientAddress = client(peer, forwardedFor: request.headers[values: .forwardedFor])
        return try await next(request, context)
    }

    /// The client of a connection from `peer` under the `X-Forwarded-For` lines `forwardedFor`.
    func client(_ peer: IPAddress, forwardedFor: [String]) -> IPAddress {
        var client = peer
        let hops = forwardedFor.joined(separator: ",").split(separator: ",").reversed()
        for hop in hops where isTrusted(client) {
            guard let address = IPAddress(hop.trimmingSpaces) else { break }
            client = address
        }
        return client
    }

    private func isTrusted(_ address: IPAddress) -> Bool {
        trusted.contains { $0.contains(address) }
    }
}
