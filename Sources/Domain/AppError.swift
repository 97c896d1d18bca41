/// A failure that a client may know of; everything else is an internal error and stays in the log.
package struct AppError: Error, Sendable, Hashable {
    /// The kinds of failure, each with one HTTP status (`HTTPSupport`).
    package enum Code: String, Sendable, CaseIterable {
        case invalid
        case unauthorized
        case forbidden
        case notFound = "not_found"
        case methodNotAllowed = "method_not_allowed"
        case conflict
        case tooLarge = "too_large"
        case tooManyRequests = "too_many_requests"
        case unavailable
        case timeout
        case `internal`
    }

    package var code: Code
    /// What is wrong and what to do, in our words; shown to the client.
    package var message: String
    /// Seconds after which the same request may succeed; sent as `Retry-After`.
    package var retryAfter: Int?

    package init(_ code: Code, _ message: String, retryAfter: Int? = nil) {
        self.code = code
        self.message = message
        self.retryAfter = retryAfter
    }
}
