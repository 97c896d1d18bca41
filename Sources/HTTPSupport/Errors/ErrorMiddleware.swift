internal import CoreMetrics
internal import HTTPTypes
package import Hummingbird
internal import Logging
internal import NIOHTTP1

/// Turns everything that a handler throws into an answer, so that no error leaves the service as an empty 500.
///
/// An unexpected error is `Server Error` to the client and `String(reflecting:)` at level error to the operator. Counter
/// `http_errors_total{code}`.
package struct ErrorMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let shape: ErrorShape

    package init(shape: ErrorShape) {
        self.shape = shape
    }

    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPParserError {
            // What came is not HTTP: the server itself answers 400 and closes the connection.
            throw error
        } catch {
            return answer(to: error, request: request, context: context)
        }
    }

    private func answer(to error: any Error, request: Request, context: AppRequestContext) -> Response {
        let failure = Failure(error, path: request.uri.path, requestID: context.requestID)
        Counter(label: "http_errors_total", dimensions: [("code", failure.code)]).increment()
        context.logger.log(
            level: failure.level, "request failed",
            metadata: ["code": "\(failure.code)", "error": "\(String(reflecting: error))"])
        var response = Response(status: failure.status, json: shape.body(failure).buffer)
        response.headers[.contentType] = shape.contentType(failure)
        response.headers.append(contentsOf: failure.headers)
        return response
    }
}
