/// A failure that a client may see. Every other error is an internal error and stays in the log.
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

    /// What exactly is wrong, for programs that act on it or say it in words of their own. The words never change.
    package enum Cause: String, Sendable, CaseIterable {
        /// Another user has the e-mail.
        case emailTaken = "email_taken"
        /// Another user has the API key.
        case keyTaken = "key_taken"
        /// The change would leave no active administrator.
        case lastAdministrator = "last_administrator"
        /// The limit request has an answer.
        case answeredBefore = "answered_before"
        /// The range ends before it begins.
        case rangeReversed = "range_reversed"
        /// The question needs a range, or a shorter one.
        case rangeRequired = "range_required"
        /// The cursor is not one that an answer of this query gave.
        case invalidCursor = "invalid_cursor"
    }

    /// The kind of failure.
    package var code: Code
    /// What exactly is wrong; `nil` where the code says all.
    package var cause: Cause?
    /// What is wrong and what to do; the client sees it.
    package var message: String
    /// Seconds after which the same request may succeed, sent as `Retry-After`.
    package var retryAfter: Int?

    /// A failure of the kind `code`.
    package init(_ code: Code, _ message: String, cause: Cause? = nil, retryAfter: Int? = nil) {
        self.code = code
        self.cause = cause
        self.message = message
        self.retryAfter = retryAfter
    }
}
