internal import Bootstrap
internal import HTTPTypes
package import Hummingbird
internal import Logging

/// Writes one line for each request, when it is answered, and counts and times it by route.
///
/// The path is logged without its query, which may carry secrets. Metrics: `http_requests_total{method,route,status}`,
/// `http_request_duration_seconds{method,route}`; the route is the template, so that strangers' paths are one label.
package struct AccessLogMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let metrics = RequestMetrics()
    private let now: @Sendable () -> ContinuousClock.Instant

    package init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.now = now
    }

    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        let start = now()
        do {
            let response = try await next(request, context)
            record(request, context, status: response.status, duration: now() - start)
            return response
        } catch {
            // Only what is not HTTP comes this far; the server answers it with 400.
            record(request, context, status: .badRequest, duration: now() - start)
            throw error
        }
    }

    private func record(
        _ request: Request, _ context: AppRequestContext, status: HTTPResponse.Status, duration: Duration
    ) {
        let milliseconds = Double(duration.nanoseconds / 10_000) / 100
        let bytesIn = context.log.bytesIn ?? request.headers[.contentLength].flatMap { Int($0) } ?? 0
        var facts = context.log.metadata
        facts["method"] = .string(request.method.rawValue)
        facts["path"] = .string(request.uri.path)
        facts["status"] = .string(String(status.code))
        facts["duration_ms"] = .string(String(milliseconds))
        facts["bytes_in"] = .string(String(bytesIn))
        facts["client"] = .string(context.clientAddress?.description ?? "-")
        context.logger.info("request", metadata: facts)
        metrics.record(
            method: request.method.label, route: context.endpointPath ?? "NotFound", status: status.code,
            nanoseconds: duration.nanoseconds)
    }
}

extension HTTPRequest.Method {
    /// The method as a metric's label; whatever strangers invent is one label.
    fileprivate var label: String {
        [.get, .head, .post, .put, .patch, .delete, .options].contains(self) ? rawValue : "other"
    }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
