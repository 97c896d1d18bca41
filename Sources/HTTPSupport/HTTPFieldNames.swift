package import HTTPTypes

extension HTTPField.Name {
    /// The key of a webhook's sender (`laravel.md` §3).
    package static let apiKey = literal("X-API-Key")
    /// The addresses a request came through, appended by each proxy.
    package static let forwardedFor = literal("X-Forwarded-For")

    /// The name a sender gives one request, so that it counts once (draft-ietf-httpapi-idempotency-key-header).
    package static let idempotencyKey = literal("Idempotency-Key")

    /// The id of the spool whose events a body holds, the number of the first, and how many the sender had no room for.
    package static let spool = literal("X-CodexFlow-Spool")
    package static let spoolFirst = literal("X-CodexFlow-First")
    package static let spoolLost = literal("X-CodexFlow-Lost")

    /// A name written in this file; one that is no token (RFC 9110 §5.6.2) stops the program at its first use.
    private static func literal(_ text: String) -> Self {
        guard let name = Self(text) else { preconditionFailure("'\(text)' is not a header's name") }
        return name
    }
}
