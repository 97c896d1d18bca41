package import Bootstrap
internal import Domain
package import Hummingbird

/// Refuses a client's requests beyond its rate with 429 and `Retry-After`. Off where no rate is configured.
///
/// A client without an address, on a Unix socket, is not limited.
package struct RateLimitMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let limiter: RateLimiter<IPAddress>

    package init(_ limiter: RateLimiter<IPAddress>) {
        self.limiter = limiter
    }

    /// - Throws: `AppError` `.tooManyRequests`
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        if let client = context.clientAddress, let seconds = limiter.wait(for: client.customer) {
            throw AppError(.tooManyRequests, "Too many requests.", retryAfter: seconds)
        }
        return try await next(request, context)
    }
}
