internal import HTTPTypes
package import Hummingbird

/// The headers that Laravel's `/api` routes carry, and its answer to a browser's preflight (`laravel.md` §3).
package struct HeadersMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    package init() {}

    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        let isAPI = request.uri.path.hasPrefix("/api/")
        var response =
            if isAPI, let preflight = preflight(request) { preflight } else { try await next(request, context) }
        response.headers[.xContentTypeOptions] = "nosniff"
        if isAPI {
            response.headers[.accessControlAllowOrigin] = "*"
            if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-cache, private" }
        }
        return response
    }

    /// The answer to a preflight (fetch.spec.whatwg.org, "CORS-preflight fetch"): what was asked for is allowed.
    private func preflight(_ request: Request) -> Response? {
        guard request.method == .options, let method = request.headers[.accessControlRequestMethod] else { return nil }
        var headers: HTTPFields = [
            .vary: "Access-Control-Request-Method, Access-Control-Request-Headers",
            .accessControlAllowMethods: method,
            .accessControlMaxAge: "0",
        ]
        headers[.accessControlAllowHeaders] = request.headers[.accessControlRequestHeaders]
        return Response(status: .noContent, headers: headers)
    }
}
