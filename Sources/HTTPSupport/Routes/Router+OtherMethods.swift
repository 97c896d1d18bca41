internal import HTTPTypes
package import Hummingbird

extension Router<AppRequestContext> {
    /// Answers the methods that no route of a known path takes: 405 with `Allow` in Laravel's words, and `OPTIONS` with the
    /// methods there are (RFC 9110 §9.3.7, §15.5.6). Hummingbird alone says 404. Called once, after the last route.
    package func answerOtherMethods() {
        for (path, routes) in Dictionary(grouping: routes, by: \.path.description) {
            // A `HEAD` for each `GET` is generated when the responder is built.
            let taken = Set(routes.map(\.method)).flatMap { $0 == .get ? [.get, .head] : [$0] }
            let allow = taken.map(\.rawValue).sorted().joined(separator: ", ")
            for method in Self.methods where !taken.contains(method) {
                on(RouterPath(path), method: method) { request, _ in
                    try Self.answer(method, path: request.uri.path, allow: allow)
                }
            }
        }
    }

    private static var methods: [HTTPRequest.Method] {
        [.get, .head, .post, .put, .patch, .delete, .options, .trace, .connect, .query]
    }

    private static func answer(_ method: HTTPRequest.Method, path: String, allow: String) throws -> Response {
        let headers: HTTPFields = [.allow: allow]
        if method == .options { return Response(status: .ok, headers: headers) }
        throw HTTPError(
            .methodNotAllowed, headers: headers,
            message:
                "The \(method.rawValue) method is not supported for route \(path.routeName). Supported methods: \(allow)."
        )
    }
}
