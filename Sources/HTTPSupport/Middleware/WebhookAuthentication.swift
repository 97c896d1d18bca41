package import Bootstrap
internal import Domain
internal import HTTPTypes
package import Hummingbird

/// Lets in only senders of a webhook key, before a byte of the body is read.
///
/// The key stands in `X-API-Key`, else in `Authorization`, with or without `Bearer ` (`laravel.md` §3).
package struct WebhookAuthentication: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let keys: WebhookKeys

    package init(keys: WebhookKeys) {
        self.keys = keys
    }

    /// - Throws: `AppError` `.unauthorized`
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        let written = request.headers[.apiKey] ?? request.headers[.authorization] ?? ""
        let trimmed = written.trimmingSpaces
        // Laravel compares the scheme case-sensitively, against RFC 9110 §11.1.
        let key = trimmed.hasPrefix("Bearer ") ? trimmed.dropFirst("Bearer ".count).trimmingSpaces : trimmed
        guard keys.accepts(String(key)) else { throw AppError(.unauthorized, "Invalid webhook key") }
        return try await next(request, context)
    }
}
