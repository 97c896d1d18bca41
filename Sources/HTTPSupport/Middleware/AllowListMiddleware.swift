package import Bootstrap
internal import Domain
package import Hummingbird

/// Lets in only clients of some address ranges; everybody else reads 403. Off where no list is configured.
package struct AllowListMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let allowed: [CIDR]

    package init(_ allowed: [CIDR]) {
        self.allowed = allowed
    }

    /// - Throws: `AppError` `.forbidden`
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        guard let client = context.clientAddress, allowed.contains(where: { $0.contains(client) }) else {
            throw AppError(.forbidden, "This address is not allowed.")
        }
        return try await next(request, context)
    }
}
