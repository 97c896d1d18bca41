import Crypto
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird

/// The cookie that keeps a person signed in to the pages: a token of Sanctum's, sealed with the user's password hash.
///
/// The token is in Laravel's `personal_access_tokens`, so it ends when it is deleted there. The seal ends it when the
/// password changes.
struct PageCookie: Sendable {
    /// Whether the service itself ends TLS.
    let hasTLS: Bool
    /// Whether proxies are trusted to say how the client reached them.
    let isBehindProxies: Bool
    /// How long a person stays signed in.
    let lifetime: Duration

    /// The token and its seal.
    struct Session: Sendable, Hashable {
        let token: String
        let seal: String

        /// A session of `token` that lasts as long as the password of this hash.
        init(token: String, passwordHash: String) {
            self.token = token
            seal = Self.seal(token, passwordHash)
        }

        fileprivate init?(_ text: String) {
            let parts = text.split(separator: "~", omittingEmptySubsequences: false)
            guard parts.count == 2 else { return nil }
            (token, seal) = (String(parts[0]), String(parts[1]))
        }

        /// Whether the user's password has still this hash.
        func isSealed(with passwordHash: String) -> Bool { seal.isSameSecret(as: Self.seal(token, passwordHash)) }

        fileprivate var text: String { "\(token)~\(seal)" }

        private static func seal(_ token: String, _ passwordHash: String) -> String {
            HMAC<SHA256>.authenticationCode(for: Data(passwordHash.utf8), using: SymmetricKey(data: Data(token.utf8)))
                .lowercaseHex
        }
    }

    /// The session of `request`'s cookie; `nil` without one.
    func session(of request: Request) -> Session? {
        request.cookies[name("codexflow_session", request)].flatMap { Session($0.value) }
    }

    /// The cookie that keeps `session`.
    func keeping(_ session: Session, for request: Request) -> Cookie {
        cookie("codexflow_session", session.text, request, seconds: Int(lifetime.components.seconds))
    }

    /// The cookie that ends a session in the browser.
    func ending(_ request: Request) -> Cookie { cookie("codexflow_session", "", request, seconds: 0) }

    /// The random text that binds a form to the browser of a person who is not signed in; `nil` without one.
    func formSecret(of request: Request) -> String? { request.cookies[name("codexflow_form", request)]?.value }

    /// The cookie that keeps a ``formSecret(of:)``.
    func keeping(formSecret: String, for request: Request) -> Cookie {
        cookie("codexflow_form", formSecret, request, seconds: 86_400)
    }

    /// A browser takes a cookie of this prefix only over TLS, for one host, and for all its paths (RFC 6265bis §4.1.3).
    private func name(_ name: String, _ request: Request) -> String { isSecure(request) ? "__Host-\(name)" : name }

    private func cookie(_ name: String, _ value: String, _ request: Request, seconds: Int) -> Cookie {
        Cookie(
            name: self.name(name, request), value: value, maxAge: seconds, path: "/", secure: isSecure(request),
            httpOnly: true, sameSite: .strict)
    }

    private func isSecure(_ request: Request) -> Bool {
        hasTLS || (isBehindProxies && request.headers[.forwardedProto]?.lowercased() == "https")
    }
}

/// Makes and checks the tokens of a caller's forms (CSRF).
///
/// A token is the same secret under another mask on each page, so that the length of a compressed page reveals nothing
/// of it (BREACH).
struct FormKey: Sendable, Hashable {
    private let code: [UInt8]

    /// The key of a caller whom `secret` identifies.
    init(secret: String) {
        let key = SymmetricKey(data: Data(secret.utf8))
        code = Array(HMAC<SHA256>.authenticationCode(for: Data("codexflow form".utf8), using: key))
    }

    /// A new secret for a browser whose person is not signed in.
    static func randomSecret() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) }.lowercaseHex
    }

    /// A token for the forms of one page.
    func token() -> String {
        var generator = SystemRandomNumberGenerator()
        let mask = code.map { _ in UInt8.random(in: 0...255, using: &generator) }
        return (mask + zip(mask, code).map { $0 ^ $1 }).lowercaseHex
    }

    /// Whether ``token()`` made `text`.
    func accepts(_ text: String) -> Bool {
        guard let bytes = [UInt8](lowercaseHex: text), bytes.count == 2 * code.count else { return false }
        let mask = bytes[..<code.count]
        return zip(zip(mask, bytes[code.count...]), code).reduce(UInt8(0)) { $0 | ($1.0.0 ^ $1.0.1 ^ $1.1) } == 0
    }
}
