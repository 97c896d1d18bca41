package import Bootstrap
internal import HTTPTypes
package import Hummingbird

/// The headers of Laravel's `/api` routes, its answer to a browser's preflight, and headers that keep browsers from
/// showing an answer as a page. A page brings its own `Content-Security-Policy`.
///
/// `Access-Control-Allow-Credentials` is never sent, because a page of another origin must not use a user's session.
package struct HeadersMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let origins: AllowedOrigins

    /// A middleware that lets pages of `origins` read answers.
    package init(origins: AllowedOrigins = .any) {
        self.origins = origins
    }

    /// Answers the request with the headers, or its preflight.
    ///
    /// - Throws: What `next` throws.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        let isAPI = Self.isAPI(request.uri.path)
        var response =
            if isAPI, let preflight = preflight(request) { preflight } else { try await next(request, context) }
        response.headers[.requestID] = context.requestID
        addHeaders(to: &response.headers, isAPI: isAPI, origin: request.headers[.origin])
        return response
    }

    /// Whether `path` is one of Laravel's `/api` routes.
    static func isAPI(_ path: String) -> Bool { path == "/api" || path.hasPrefix("/api/") }

    /// Adds what every answer has besides its request's id.
    func addHeaders(to headers: inout HTTPFields, isAPI: Bool, origin: String?) {
        headers[.xContentTypeOptions] = "nosniff"
        headers[.xFrameOptions] = "DENY"
        headers[.referrerPolicy] = "no-referrer"
        if headers[.contentSecurityPolicy] == nil {
            headers[.contentSecurityPolicy] = "default-src 'none'; frame-ancestors 'none'"
        }
        guard isAPI else { return }
        origins.add(to: &headers, for: origin)
        if headers[.cacheControl] == nil { headers[.cacheControl] = "no-cache, private" }
    }

    /// The answer to a preflight (fetch.spec.whatwg.org, "CORS-preflight fetch"). It allows what was asked for.
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

/// The origins whose pages may read answers (fetch.spec.whatwg.org, "CORS protocol").
package enum AllowedOrigins: Sendable, Hashable {
    /// All origins, as Laravel has it. A browser does not send tokens by itself.
    case any
    case these(Set<String>)

    /// The settings of origins. The names begin with `prefix`.
    package static func table(prefix: String) -> SettingsTable {
        [
            Setting(
                "\(prefix)_CORS_ORIGINS", .form("* or a list of origins such as https://app.example"), default: "*",
                "The origins whose pages may read answers, separated by commas; * is every one, as in Laravel.")
        ]
    }

    /// Reads ``table(prefix:)``.
    package init(reading settings: SettingsReader, prefix: String) {
        self = settings.parsed(Self.table(prefix: prefix).settings[0]) { text in
            guard text != "*" else { return .any }
            let origins = text.split { $0 == "," || $0.isWhitespace }.map(String.init)
            let areOrigins = origins.allSatisfy { $0.wholeMatch(of: /https?:\/\/[A-Za-z0-9.\-\[\]:]+/) != nil }
            return areOrigins && !origins.isEmpty ? .these(Set(origins)) : nil
        }
    }

    /// Sets in `headers` whether a page of `origin` may read the answer.
    func add(to headers: inout HTTPFields, for origin: String?) {
        guard case .these(let origins) = self else {
            headers[.accessControlAllowOrigin] = "*"
            return
        }
        headers[.vary] = [headers[.vary], "Origin"].compactMap(\.self).joined(separator: ", ")
        if let origin, origins.contains(origin) { headers[.accessControlAllowOrigin] = origin }
    }
}
