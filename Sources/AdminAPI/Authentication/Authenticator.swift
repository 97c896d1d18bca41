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
    let now: @Sendable () -> Timestamp

    /// Who asks `request`; `nil` for a stranger, where the route lets in anyone.
    ///
    /// A token that is given decides alone: a browser does not send one by itself, so it needs no further proof.
    /// - Throws: ``AppError`` `.unauthorized` for a stranger, `.forbidden` for a suspended user, and for who is no administrator
    ///   where only they may ask; `HTTPError` 419 for a session without its CSRF token on an unsafe method.
    func caller(of request: Request, for access: Endpoint.Access) async throws -> Caller? {
        guard access != .anyone else { return nil }
        let found =
            if let token = request.bearerToken { try await caller(byToken: token) } else {
                try await caller(bySessionOf: request)
            }
        guard let caller = found else { throw AppError(.unauthorized, "Unauthenticated.") }
        guard caller.user.isActive else { throw AppError(.forbidden, "Your account has been suspended.") }
        guard access != .admin || caller.user.isAdmin else {
            throw AppError(.forbidden, "Only administrators may do this.")
        }
        return caller
    }

    private func caller(byToken token: String) async throws -> Caller? {
        // PostgreSQL keeps no NUL, so nobody's token has one.
        guard !token.utf8.contains(0), token.utf8.count <= 512 else { return nil }
        let now = now()
        let found = try await database.read { try AccessToken.find(token, $0, now: now) }
        return found.map { Caller(user: $0.user, proof: .token($0.id)) }
    }

    private func caller(bySessionOf request: Request) async throws -> Caller? {
        guard let sessions, let session = try await sessions.session(of: request, database, now: now()) else {
            return nil
        }
        let isSafe = [.get, .head, .options].contains(request.method)
        guard isSafe || sessions.isProven(request, by: session) else {
            throw HTTPError(.init(code: 419, reasonPhrase: "CSRF Token Mismatch"), message: "CSRF token mismatch.")
        }
        let user = try await database.read { try UserProfile.find(session.userID, $0) }
        return user.map { Caller(user: $0, proof: .session) }
    }
}

extension Request {
    /// The token of `Authorization: Bearer …`, whose scheme is written in any case (RFC 9110 §11.1).
    fileprivate var bearerToken: String? {
        guard let field = headers[.authorization], field.prefix(7).lowercased() == "bearer " else { return nil }
        return String(field.dropFirst(7).trimmingSpaces)
    }
}
