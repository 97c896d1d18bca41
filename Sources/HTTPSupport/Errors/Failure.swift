internal import Domain
internal import HTTPTypes
internal import Hummingbird
internal import Logging

/// What a thrown error means to the client and to the log.
struct Failure {
    /// The request's path and id.
    var path: String
    var requestID: String
    var status: HTTPResponse.Status
    /// What the client reads.
    var message: String
    var headers = HTTPFields()
    /// The fields that broke rules.
    var fields: JSON?
    var level = Logger.Level.debug
    /// The label of `http_errors_total`.
    var code: String

    /// - Parameters:
    ///   - error: Whatever the rest of the chain threw.
    ///   - path: The request's path, for Laravel's words about unknown routes.
    ///   - requestID: The id that the log's lines carry.
    init(_ error: any Error, path: String, requestID: String) {
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
        case let error as AppError: headers[.retryAfter] = error.retryAfter.map(String.init)
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

    private static func text(for status: HTTPResponse.Status, path: String) -> String {
        switch status {
        case .notFound: "The route \(path.routeName) could not be found."
        case .contentTooLarge: "The body is too large."
        default: status.reasonPhrase
        }
    }
}

extension String {
    /// A path as Laravel names it: without slashes around it, and `/` where nothing is left.
    var routeName: String {
        let inner = String(drop { $0 == "/" }.reversed().drop { $0 == "/" }.reversed())
        return inner.isEmpty ? "/" : inner
    }
}
