internal import HTTPTypes

/// How a service writes a failure as JSON.
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

    /// Laravel's: `{"message":"…"}`, with `errors` where fields broke rules (`laravel.md` §3).
    package static let laravel = ErrorShape { failure in
        let message: JSON = ["message": .string(failure.message)]
        return failure.fields.map { message.merging(["errors": $0]) } ?? message
    }

    /// The webhook's: `{"error":"Unauthorized","message":"…"}` (`laravel.md` §3), with the status' own name as error.
    package static let webhook = ErrorShape { failure in
        ["error": .string(failure.status.reasonPhrase), "message": .string(failure.message)]
    }

    /// RFC 9457 problems, with the stable `code` of the failure and the request's id.
    package static let problem = ErrorShape(contentType: { _ in "application/problem+json" }) { failure in
        let problem: JSON = [
            "type": "about:blank", "title": .string(failure.status.reasonPhrase),
            "status": .integer(failure.status.code),
            "detail": .string(failure.message), "code": .string(failure.code), "request_id": .string(failure.requestID),
        ]
        return failure.fields.map { problem.merging(["errors": $0]) } ?? problem
    }

    /// Laravel's for `/api` and below it, but problems for `/api/v1` and below it, and for what is no API.
    package static let byPath = ErrorShape(
        contentType: { shape(of: $0).contentType($0) }, body: { shape(of: $0).body($0) })

    private static func shape(of failure: Failure) -> ErrorShape {
        let parts = failure.path.split(separator: "/", maxSplits: 2)
        return parts.first == "api" && parts.dropFirst().first != "v1" ? .laravel : .problem
    }
}
