internal import Domain
internal import HTTPTypes
internal import Hummingbird
internal import Logging

/// What a thrown error means to the client and to the log.
struct Failure {
    var status: HTTPResponse.Status
    /// What the client reads.
    var message: String
    var headers = HTTPFields()
    var level = Logger.Level.debug
    /// The label of `http_errors_total`.
    var code: String

    /// - Parameters:
    ///   - error: Whatever the rest of the chain threw.
    ///   - path: The request's path, for Laravel's words about unknown routes.
    init(_ error: any Error, path: String) {
        switch error {
        case let error as AppError:
            self.init(error.code.status, error.message)
            headers[.retryAfter] = error.retryAfter.map(String.init)
        case let error as HTTPError:
            self.init(error.status, error.body ?? Self.text(for: error.status, path: path))
            headers = error.headers
        case let error as any HTTPResponseError:
            self.init(error.status, Self.text(for: error.status, path: path))
        case is CancellationError:
            self.init(.serviceUnavailable, "The server is shutting down.")
            headers[.retryAfter] = "1"
        default:
            self.init(.internalServerError, "Server Error")
        }
    }

    private init(_ status: HTTPResponse.Status, _ message: String) {
        self.status = status
        self.message = message
        code = AppError.Code(status)?.rawValue ?? "other"
        level =
            switch status {
            case .internalServerError: .error
            case .serviceUnavailable, .gatewayTimeout: .warning
            default: .debug
            }
    }

    private static func text(for status: HTTPResponse.Status, path: String) -> String {
        switch status {
        case .notFound: "The route \(path.drop { $0 == "/" }) could not be found."
        case .contentTooLarge: "The body is too large."
        default: status.reasonPhrase
        }
    }
}
