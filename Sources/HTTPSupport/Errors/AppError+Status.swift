package import Domain
package import HTTPTypes

extension AppError.Code {
    /// The HTTP status of the failure (`style.md` §7).
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

    /// The kind of failure that `status` stands for; `nil` where several or none do.
    init?(_ status: HTTPResponse.Status) {
        guard let code = Self.allCases.first(where: { $0.status == status }) else { return nil }
        self = code
    }
}
