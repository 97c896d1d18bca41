import Bootstrap
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// The authenticated user of a request, and how they were authenticated.
struct Caller: Sendable, Hashable {
    enum Proof: Sendable, Hashable {
        /// Sanctum's token, by its id: of the header, or of the pages' cookie.
        case token(Int64)
        /// Laravel's session cookie.
        case session
    }

    let user: UserProfile
    let proof: Proof
    /// Proves that a form comes from this caller's own page; `nil` for a bearer token, which no browser sends by
    /// itself.
    let formKey: FormKey?
}

/// Authenticates a request by bearer token, by the pages' own cookie, or by Laravel's session cookie, and checks the
/// route's access.
struct Authenticator: Sendable {
    let database: Database
    /// `nil` without `APP_KEY`. Then Laravel's cookies are not accepted.
    let sessions: SessionReader?
    /// The cookie of the pages.
    let pageCookie: PageCookie
    /// Sanctum's `expiration`: how long a token lives; `nil` for ever.
    let tokenLifetime: Duration?
    let tokenForm: AccessToken.Form
    let now: @Sendable () -> Timestamp

    /// Who sent a request, before anything is checked.
    private struct Sender {
        let caller: Caller
        /// A session may do everything that its user may (Sanctum's `TransientToken`).
        var abilities: Set = ["*"]
        /// Laravel's session; `nil` for a token.
        var session: SessionReader.Session?
    }

    /// The caller of `request`; `nil` for a route that anyone may ask.
    ///
    /// A given token decides alone. Browsers do not send tokens by themselves, so no CSRF token is needed.
    ///
    /// - Throws: ``AppError`` `.unauthorized` when there is no valid token or session, `.forbidden` when the user is
    ///   suspended, is no administrator on a route for administrators, or the token lacks the ability; `HTTPError` 419
    ///   when a cookie has no CSRF token on an unsafe method.
    func caller(of request: Request, for route: Route) async throws -> Caller? {
        guard route.access != .anyone else { return nil }
        guard let sender = try await sender(of: request) else { throw Self.unauthenticated }
        let isSafe = [.get, .head, .options].contains(request.method)
        guard isSafe || isProven(request, by: sender) else {
            throw HTTPError(.init(code: 419, reasonPhrase: "CSRF Token Mismatch"), message: "CSRF token mismatch.")
        }
        try Self.require(route.access, of: sender.caller)
        guard route.isOpen(to: sender.abilities) else { throw AppError(.forbidden, "Invalid ability provided.") }
        return sender.caller
    }

    /// The caller of `request` for a page, by a cookie; `nil` without one. A form's token is not checked.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.timeout`.
    func visitor(of request: Request) async throws -> Caller? {
        guard let caller = try await senderByCookie(of: request)?.caller, caller.user.isActive else { return nil }
        return caller
    }

    /// Requires that `caller` may ask what has this `access`.
    ///
    /// - Throws: ``AppError`` `.forbidden`.
    static func require(_ access: Route.Access, of caller: Caller) throws {
        guard caller.user.isActive else { throw AppError(.forbidden, "Your account has been suspended.") }
        guard access != .admin || caller.user.isAdmin else {
            throw AppError(.forbidden, "Only administrators may do this.")
        }
    }

    static let unauthenticated = AppError(.unauthorized, "Unauthenticated.")

    private func sender(of request: Request) async throws -> Sender? {
        guard let token = request.bearerToken else { return try await senderByCookie(of: request) }
        return try await accessToken(token).map { found in
            Sender(
                caller: Caller(user: found.user, proof: .token(found.id), formKey: nil),
                abilities: Self.abilities(found.abilities))
        }
    }

    private func senderByCookie(of request: Request) async throws -> Sender? {
        if let session = pageCookie.session(of: request), let found = try await accessToken(session.token),
            session.isSealed(with: found.passwordHash)
        {
            let caller = Caller(
                user: found.user, proof: .token(found.id), formKey: FormKey(secret: session.token))
            return Sender(caller: caller)
        }
        return try await sender(bySessionOf: request)
    }

    private func isProven(_ request: Request, by sender: Sender) -> Bool {
        guard let key = sender.caller.formKey else { return sender.session == nil }
        if let session = sender.session, let sessions, sessions.isProven(request, by: session) { return true }
        return request.headers[.csrfToken].map(key.accepts) ?? false
    }

    private func accessToken(_ token: String) async throws -> AccessToken? {
        // PostgreSQL cannot store NUL, so no valid token contains one.
        guard !token.utf8.contains(0), token.utf8.count <= 512 else { return nil }
        let (now, lifetime, form) = (now(), tokenLifetime, tokenForm)
        return try await database.read { try AccessToken.find(token, $0, now: now, lifetime: lifetime, form: form) }
    }

    /// The abilities that Laravel wrote as JSON: a list, or an object where PHP's list had gaps. Other JSON gives no
    /// ability.
    private static func abilities(_ text: String?) -> Set<String> {
        let json = text.flatMap { JSON(parsing: Array($0.utf8)) }
        return Set((json?.elements ?? json?.members?.map(\.value) ?? []).compactMap(\.text))
    }

    private func sender(bySessionOf request: Request) async throws -> Sender? {
        guard let sessions, let session = try await sessions.session(of: request, database, now: now()),
            let found = try await database.read({ try UserProfile.findForSession(session.userID, $0) }),
            sessions.isCurrent(session, passwordHash: found.passwordHash)
        else { return nil }
        let key = session.csrfToken.flatMap { $0.isEmpty ? nil : FormKey(secret: $0) }
        return Sender(caller: Caller(user: found.user, proof: .session, formKey: key), session: session)
    }
}

extension Request {
    /// The token of `Authorization: Bearer …`. The scheme is case-insensitive (RFC 9110 §11.1).
    fileprivate var bearerToken: String? {
        guard let field = headers[.authorization], field.prefix(7).lowercased() == "bearer " else { return nil }
        return String(field.dropFirst(7).trimmingSpaces)
    }
}

/// Reads Laravel's browser sessions, and never writes one.
struct SessionReader: Sendable {
    /// The logged-in user, and the session's data.
    struct Session: Sendable, Hashable {
        let userID: Int64
        /// `nil` where the data cannot be read.
        let contents: JSON?

        var csrfToken: String? { contents?["_token"]?.text }
    }

    private enum Store: Sendable {
        case table(SessionTable)
        case folder(String)
    }

    private let laravel: LaravelSessions
    private let store: Store

    /// Reads the settings of ``LaravelSessions``. A `SESSION_TABLE` that is not a table name is a problem of
    /// `settings`.
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

    /// The session of `request`'s cookie; `nil` without a session of Laravel, after its end, and while nobody is logged
    /// in.
    ///
    /// - Throws: ``AppError`` `.unavailable` when the database is away, `.timeout` when it takes too long.
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

    /// Whether the password is unchanged since the session's last use.
    func isCurrent(_ session: Session, passwordHash: String) -> Bool {
        laravel.isCurrent(session.contents, passwordHash: passwordHash)
    }

    /// Whether `request` has the session's CSRF token, which only Laravel's own pages know: in `X-CSRF-TOKEN`, or
    /// encrypted in `X-XSRF-TOKEN`.
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
