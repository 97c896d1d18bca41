import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// Finds out who asks, by bearer token or by Laravel's session cookie, and lets in whom a route lets in.
struct Authenticator: Sendable {
    let database: Database
    /// `nil` where there is no `APP_KEY`: then there are tokens only.
    let sessions: SessionReader?
    /// Sanctum's `expiration`: how long a token lives; `nil` for ever.
    let tokenLifetime: Duration?
    let tokenForm: AccessToken.Form
    let now: @Sendable () -> Timestamp

    /// Who asks `request`; `nil` for a stranger, where the route lets in anyone.
    ///
    /// A token that is given decides alone: a browser does not send one by itself, so it needs no further proof.
    /// - Throws: ``AppError`` `.unauthorized` for a stranger, `.forbidden` for a suspended user, for who is no
    ///   administrator where only they may ask, and for a token without the ability; `HTTPError` 419 for a session
    ///   without its CSRF token on an unsafe method.
    func caller(of request: Request, for endpoint: Endpoint) async throws -> Caller? {
        let access = endpoint.access
        guard access != .anyone else { return nil }
        let caller: Caller?
        // A session may do what its user may (Sanctum's `TransientToken`).
        var abilities: Set = ["*"]
        if let token = request.bearerToken {
            let found = try await accessToken(token)
            caller = found.map { Caller(user: $0.user, proof: .token($0.id)) }
            abilities = Self.abilities(found?.abilities)
        } else {
            caller = try await self.caller(bySessionOf: request)
        }
        guard let caller else { throw AppError(.unauthorized, "Unauthenticated.") }
        guard caller.user.isActive else { throw AppError(.forbidden, "Your account has been suspended.") }
        guard access != .admin || caller.user.isAdmin else {
            throw AppError(.forbidden, "Only administrators may do this.")
        }
        guard endpoint.isOpen(to: abilities) else { throw AppError(.forbidden, "Invalid ability provided.") }
        return caller
    }

    private func accessToken(_ token: String) async throws -> AccessToken? {
        // PostgreSQL keeps no NUL, so nobody's token has one.
        guard !token.utf8.contains(0), token.utf8.count <= 512 else { return nil }
        let (now, lifetime, form) = (now(), tokenLifetime, tokenForm)
        return try await database.read { try AccessToken.find(token, $0, now: now, lifetime: lifetime, form: form) }
    }

    /// The abilities that Laravel wrote as JSON: a list, or what PHP makes of one with holes. What is neither gives
    /// none.
    private static func abilities(_ text: String?) -> Set<String> {
        let json = text.flatMap { JSON(parsing: Array($0.utf8)) }
        return Set((json?.elements ?? json?.members?.map(\.value) ?? []).compactMap(\.text))
    }

    private func caller(bySessionOf request: Request) async throws -> Caller? {
        guard let sessions, let session = try await sessions.session(of: request, database, now: now()) else {
            return nil
        }
        let isSafe = [.get, .head, .options].contains(request.method)
        guard isSafe || sessions.isProven(request, by: session) else {
            throw HTTPError(.init(code: 419, reasonPhrase: "CSRF Token Mismatch"), message: "CSRF token mismatch.")
        }
        guard let found = try await database.read({ try UserProfile.findForSession(session.userID, $0) }),
            sessions.isCurrent(session, passwordHash: found.passwordHash)
        else { return nil }
        return Caller(user: found.user, proof: .session)
    }
}

extension Request {
    /// The token of `Authorization: Bearer …`, whose scheme is written in any case (RFC 9110 §11.1).
    fileprivate var bearerToken: String? {
        guard let field = headers[.authorization], field.prefix(7).lowercased() == "bearer " else { return nil }
        return String(field.dropFirst(7).trimmingSpaces)
    }
}
