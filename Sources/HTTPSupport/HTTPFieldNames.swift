package import HTTPTypes

extension HTTPField.Name {
    /// The key of a webhook's sender (`laravel.md` §3).
    package static let apiKey = literal("X-API-Key")
    /// The addresses a request came through, appended by each proxy.
    package static let forwardedFor = literal("X-Forwarded-For")
    /// How the client reached the first proxy: `http` or `https`.
    package static let forwardedProto = literal("X-Forwarded-Proto")

    /// The name a sender gives one request, so that it counts once (draft-ietf-httpapi-idempotency-key-header).
    package static let idempotencyKey = literal("Idempotency-Key")

    /// The id of the spool whose events a body holds, the number of the first, and how many the sender had no room for.
    package static let spool = literal("X-CodexFlow-Spool")
    package static let spoolFirst = literal("X-CodexFlow-First")
    package static let spoolLost = literal("X-CodexFlow-Lost")

    /// Where else to read on, such as the next page (RFC 8288).
    package static let link = literal("Link")

    /// The id of a request in the log's lines.
    package static let requestID = literal("X-Request-Id")

    /// Laravel's proof that a request comes from its own page, as the page has it, and as its cookie has it.
    package static let csrfToken = literal("X-CSRF-TOKEN")
    package static let xsrfToken = literal("X-XSRF-TOKEN")

    /// Whether, and by whom, a page may be framed; what it may load; what it tells of where it came from.
    static let xFrameOptions = literal("X-Frame-Options")
    static let referrerPolicy = literal("Referrer-Policy")

    /// A name written in this file; one that is no token (RFC 9110 §5.6.2) stops the program at its first use.
    private static func literal(_ text: String) -> Self {
        guard let name = Self(text) else { preconditionFailure("'\(text)' is not a header's name") }
        return name
    }
}
