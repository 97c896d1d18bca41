internal import Bootstrap
internal import CoreMetrics
internal import HTTPTypes
package import Hummingbird
package import Logging
internal import Synchronization

/// Logs one line for each answered request, and counts and times requests by route.
///
/// The logged path has no query, which may contain secrets. Metrics: `http_requests_total{method,route,status}` and
/// `http_request_duration_seconds{method,route}`. The label is the route's template, so that unknown paths share one
/// label.
package struct AccessLogMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let metrics = RequestMetrics()
    private let now: @Sendable () -> ContinuousClock.Instant

    /// A middleware with the clock `now`.
    package init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.now = now
    }

    /// Answers the request and logs its line.
    ///
    /// - Throws: What `next` throws.
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
            // Only bytes that are not HTTP throw here. The server answers them with 400.
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
    /// The method as a metric's label. Unknown methods share one label.
    fileprivate var label: String {
        [.get, .head, .post, .put, .patch, .delete, .options].contains(self) ? rawValue : "other"
    }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}

/// The fields of a request's line in the access log that only its handler knows.
package final class RequestLog: Sendable {
    private struct State {
        /// The capacity fits every line, so the dictionary never grows.
        var metadata = Logger.Metadata(minimumCapacity: 12)
        var bytesIn: Int?
    }

    private let state = Mutex(State())

    /// An empty line.
    package init() {}

    /// A field of the line, such as `stored` or `duplicates`.
    package subscript(key: String) -> Logger.MetadataValue? {
        get { state.withLock { $0.metadata[key] } }
        set { state.withLock { $0.metadata[key] = newValue } }
    }

    /// The bytes of the body that were read; `nil` where none were.
    package var bytesIn: Int? {
        get { state.withLock { $0.bytesIn } }
        set { state.withLock { $0.bytesIn = newValue } }
    }

    /// Every field so far.
    package var metadata: Logger.Metadata {
        state.withLock { $0.metadata }
    }
}

/// Counts and times requests: `http_requests_total{method,route,status}`,
/// `http_request_duration_seconds{method,route}`.
///
/// The handles are kept, because making one costs more than counting. There are as many as routes, methods and status
/// codes.
final class RequestMetrics: Sendable {
    private struct Key: Hashable {
        var method: String
        var route: String
        var status: Int
    }

    private let handles = Mutex<[Key: (counter: Counter, timer: Timer)]>([:])

    func record(method: String, route: String, status: Int, nanoseconds: Int64) {
        let (counter, timer) = handles.withLock { handles in
            let key = Key(method: method, route: route, status: status)
            if let known = handles[key] { return known }
            let labels = [("method", method), ("route", route)]
            let new = (
                counter: Counter(label: "http_requests_total", dimensions: labels + [("status", "\(status)")]),
                timer: Timer(label: "http_request_duration_seconds", dimensions: labels)
            )
            handles[key] = new
            return new
        }
        counter.increment()
        timer.recordNanoseconds(nanoseconds)
    }
}
