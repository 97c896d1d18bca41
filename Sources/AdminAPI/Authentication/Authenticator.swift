import Bootstrap
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// Who asks, and how that is known.
struct Caller: Sendable, Hashable {
    enum Proof: Sendable, Hashable {
        /// Sanctum's bearer token, by its id.
        case token(Int64)
        /// Laravel's session cookie.
        case session
    }

    let user: UserProfile
    let proof: Proof
}

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

/// Reads Laravel's own browser sessions (`laravel.md` §5); it never writes one.
struct SessionReader: Sendable {
    /// Who is logged in, and what a page must show before it changes something.
    struct Session: Sendable, Hashable {
        let userID: Int64
        /// `nil` where they cannot be read.
        let contents: JSON?

        var csrfToken: String? { contents?["_token"]?.text }
    }

    private enum Store: Sendable {
        case table(SessionTable)
        case folder(String)
    }

    private let laravel: LaravelSessions
    private let store: Store

    /// As ``LaravelSessions``. A `SESSION_TABLE` that is no table's name is a problem of `settings`.
    init?(reading settings: SettingsReader) {
        guard let laravel = LaravelSessions(reading: settings) else { return nil }
        self.laravel = laravel
        switch laravel.driver {
        case .files(let folder): store = .folder(folder)
        case .database(let name):
            let table = SessionTable(name)
            if table == nil { settings.reject("SESSION_TABLE", SessionTable.rule) }
            store = .table(table ?? .standard)
        }
    }

    /// The session of `request`'s cookie; `nil` where there is none, it is not Laravel's, it has ended, or nobody is logged in.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.timeout`.
    func session(of request: Request, _ database: Database, now: Timestamp) async throws -> Session? {
        guard let id = laravel.sessionID(in: request.headers) else { return nil }
        let end = now.advanced(by: .zero - laravel.lifetime)
        switch store {
        case .table(let table):
            guard let stored = try await database.read({ try StoredSession.find(id, in: table, $0) }),
                stored.usedAt > end, let user = stored.userID
            else { return nil }
            let data = Data(base64Encoded: stored.payload).flatMap { laravel.contents(Array($0)) }
            return Session(userID: user, contents: data)
        case .folder(let folder):
            guard let file = await LaravelSessions.file(id, in: folder),
                file.usedAt.timeIntervalSince1970 > Double(end.microseconds) / 1_000_000,
                let data = laravel.contents(file.bytes), let user = LaravelSessions.userID(in: data)
            else { return nil }
            return Session(userID: user, contents: data)
        }
    }

    /// Whether the password is still the one with which the session was last used.
    func isCurrent(_ session: Session, passwordHash: String) -> Bool {
        laravel.isCurrent(session.contents, passwordHash: passwordHash)
    }

    /// Whether `request` shows the token of the session, as only a page of Laravel's own can: in `X-CSRF-TOKEN`, or encrypted in
    /// `X-XSRF-TOKEN`.
    func isProven(_ request: Request, by session: Session) -> Bool {
        guard let token = session.csrfToken, !token.isEmpty else { return false }
        let shown =
            request.headers[.csrfToken]
            ?? request.headers[.xsrfToken].flatMap {
                laravel.encrypter.cookie("XSRF-TOKEN", $0.removingPercentEncoding ?? $0)
            }
        return shown?.isSameSecret(as: token) ?? false
    }
}
