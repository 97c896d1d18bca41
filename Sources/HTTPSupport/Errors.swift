internal import CoreMetrics
package import Domain
package import HTTPTypes
package import Hummingbird
package import Logging
internal import NIOHTTP1

extension AppError.Code {
    /// The HTTP status of the failure.
    package var status: HTTPResponse.Status {
        switch self {
        case .invalid: .badRequest
        case .unauthorized: .unauthorized
        case .forbidden: .forbidden
        case .notFound: .notFound
        case .methodNotAllowed: .methodNotAllowed
        case .conflict: .conflict
        case .tooLarge: .contentTooLarge
        case .tooManyRequests: .tooManyRequests
        case .unavailable: .serviceUnavailable
        case .timeout: .gatewayTimeout
        case .internal: .internalServerError
        }
    }

    /// The code of `status`; `nil` where no code or several have it.
    init?(_ status: HTTPResponse.Status) {
        guard let code = Self.allCases.first(where: { $0.status == status }) else { return nil }
        self = code
    }
}

/// Input that breaks rules, answered 422: each field with its errors, in the order of the fields.
package struct ValidationError: Error, Sendable, Hashable {
    /// One field and a sentence for each rule that it breaks.
    package struct Field: Sendable, Hashable {
        /// The name of the field.
        package let name: String
        /// A sentence for each broken rule.
        package let messages: [String]
    }

    /// The fields that break rules, in order.
    package private(set) var fields: [Field] = []

    /// No errors.
    package init() {}

    /// One field that breaks one rule.
    package init(_ name: String, _ message: String) {
        add(name, [message])
    }

    /// Adds the errors of a field. Empty `messages` add nothing.
    package mutating func add(_ name: String, _ messages: [String]) {
        if !messages.isEmpty { fields.append(Field(name: name, messages: messages)) }
    }

    /// Whether no field breaks a rule.
    package var isEmpty: Bool { fields.isEmpty }

    /// Laravel's summary: the first sentence and the number of others.
    package var summary: String {
        let messages = fields.flatMap(\.messages)
        guard let first = messages.first else { return "The given data was invalid." }
        let rest = messages.count - 1
        return rest == 0 ? first : "\(first) (and \(rest) more error\(rest == 1 ? "" : "s"))"
    }

    /// `{field: [sentence…]}`, as Laravel writes it.
    package var json: JSON {
        .object(fields.map { .init($0.name, .array($0.messages.map(JSON.string))) })
    }
}

/// What a thrown error means for the client and for the log.
package struct Failure {
    /// The request's path and id.
    var path: String
    package let requestID: String
    package let status: HTTPResponse.Status
    /// The message that the client reads.
    package let message: String
    package private(set) var headers = HTTPFields()
    /// The fields that broke rules.
    var fields: JSON?
    /// What exactly is wrong.
    private(set) var cause: AppError.Cause?
    private let level: Logger.Level
    /// The label of `http_errors_total`.
    package let code: String

    /// - Parameters:
    ///   - error: What the handler or a later middleware threw.
    ///   - path: The request's path, which Laravel's messages about unknown routes contain.
    ///   - requestID: The request's id in the log.
    package init(_ error: any Error, path: String, requestID: String) {
        let (status, message): (HTTPResponse.Status, String) =
            switch error {
            case let error as AppError: (error.code.status, error.message)
            case let error as ValidationError: (.unprocessableContent, error.summary)
            case let error as HTTPError: (error.status, error.body ?? Self.text(for: error.status, path: path))
            case let error as any HTTPResponseError: (error.status, Self.text(for: error.status, path: path))
            case is CancellationError: (.serviceUnavailable, "The server is shutting down.")
            default: (.internalServerError, "Server Error")
            }
        self.init(status, message, path: path, requestID: requestID)
        switch error {
        case let error as AppError: (headers[.retryAfter], cause) = (error.retryAfter.map(String.init), error.cause)
        case let error as ValidationError: fields = error.json
        case let error as HTTPError: headers = error.headers
        case is CancellationError: headers[.retryAfter] = "1"
        default: break
        }
    }

    private init(_ status: HTTPResponse.Status, _ message: String, path: String, requestID: String) {
        self.path = path
        self.requestID = requestID
        self.status = status
        self.message = message
        code = AppError.Code(status)?.rawValue ?? (status == .unprocessableContent ? "invalid_input" : "other")
        level =
            switch status {
            case .internalServerError: .error
            case .serviceUnavailable, .gatewayTimeout: .warning
            default: .debug
            }
    }

    /// Counts the failure in `http_errors_total`, and logs `error`.
    package func report(_ error: any Error, to logger: Logger) {
        Counter(label: "http_errors_total", dimensions: [("code", code)]).increment()
        logger.log(
            level: level, "request failed", metadata: ["code": "\(code)", "error": "\(String(reflecting: error))"])
    }

    private static func text(for status: HTTPResponse.Status, path: String) -> String {
        switch status {
        case .notFound: "The route \(path.routeName) could not be found."
        case .contentTooLarge: "The body is too large."
        default: status.reasonPhrase
        }
    }
}

extension String {
    /// A path as Laravel names it: without slashes around it, and `/` for the root.
    var routeName: String {
        let inner = String(drop { $0 == "/" }.reversed().drop { $0 == "/" }.reversed())
        return inner.isEmpty ? "/" : inner
    }
}

/// How a service writes an error as JSON.
package struct ErrorShape: Sendable {
    /// The media type of ``body``.
    let contentType: @Sendable (Failure) -> String
    let body: @Sendable (Failure) -> JSON

    private init(
        contentType: @escaping @Sendable (Failure) -> String = { _ in "application/json" },
        body: @escaping @Sendable (Failure) -> JSON
    ) {
        self.contentType = contentType
        self.body = body
    }

    /// Laravel's shape: `{"message":"…"}`, with `errors` where fields broke rules.
    package static let laravel = ErrorShape { failure in
        let message: JSON = ["message": .string(failure.message)]
        return failure.fields.map { message.merging(["errors": $0]) } ?? message
    }

    /// The webhook's shape: `{"error":"Unauthorized","message":"…"}`, with the status' own name as error.
    package static let webhook = ErrorShape { failure in
        ["error": .string(failure.status.reasonPhrase), "message": .string(failure.message)]
    }

    /// RFC 9457 problems, with the failure's stable `code`, its `cause` where it has one, and the request's id.
    package static let problem = ErrorShape(contentType: { _ in "application/problem+json" }) { failure in
        let problem: JSON = [
            "type": "about:blank", "title": .string(failure.status.reasonPhrase),
            "status": .integer(failure.status.code),
            "detail": .string(failure.message), "code": .string(failure.code), "request_id": .string(failure.requestID),
        ]
        let cause = failure.cause.map { problem.merging(["cause": .string($0.rawValue)]) } ?? problem
        return failure.fields.map { cause.merging(["errors": $0]) } ?? cause
    }

    /// Laravel's shape for routes below `/api`. Problems for `/api/v1` and below it, and for all other paths.
    package static let byPath = ErrorShape(
        contentType: { shape(of: $0).contentType($0) }, body: { shape(of: $0).body($0) })

    private static func shape(of failure: Failure) -> ErrorShape {
        let parts = failure.path.split(separator: "/", maxSplits: 2)
        return parts.first == "api" && parts.dropFirst().first != "v1" ? .laravel : .problem
    }
}

/// Turns every error into an answer, so that no error leaves the service as an empty 500.
///
/// An unexpected error is `Server Error` for the client. The log has its `String(reflecting:)` at level error. Counter
/// `http_errors_total{code}`.
package struct ErrorMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let shape: ErrorShape

    /// A middleware that writes errors in `shape`.
    package init(shape: ErrorShape) {
        self.shape = shape
    }

    /// Answers the request, or the error that it ends with.
    ///
    /// - Throws: The error of bytes that are not HTTP.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPParserError {
            // The bytes were not HTTP. The server itself answers 400 and closes the connection.
            throw error
        } catch {
            return answer(to: error, request: request, context: context)
        }
    }

    private func answer(to error: any Error, request: Request, context: AppRequestContext) -> Response {
        let failure = Failure(error, path: request.uri.path, requestID: context.requestID)
        failure.report(error, to: context.logger)
        var response = Response(status: failure.status, json: shape.body(failure).buffer)
        response.headers[.contentType] = shape.contentType(failure)
        response.headers.append(contentsOf: failure.headers)
        return response
    }
}
