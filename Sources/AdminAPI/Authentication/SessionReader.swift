import Bootstrap
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

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
