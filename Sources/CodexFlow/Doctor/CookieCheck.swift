import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Postgres
import Storage

/// Follows a browser's cookie to its user, as admin-api does, and reports the step that fails. It shows neither the
/// cookie's value nor the id of the session.
struct CookieCheck: Sendable {
    private static let subject = "cookie"

    /// `name=value`, or a whole `Cookie` header.
    let text: Secret
    /// `nil` without `APP_KEY`.
    let sessions: LaravelSessions?
    /// The database as admin-api connects.
    let database: ConnectionPool
    let now: Timestamp

    /// The step that fails.
    private struct Lost: Error {
        let finding: Finding

        init(_ message: String, _ remedy: String) {
            finding = .failure(CookieCheck.subject, message, remedy)
        }
    }

    /// A session of either driver.
    private struct Stored {
        let userID: Int64?
        let contents: JSON?
        let usedAt: Timestamp
    }

    /// Reads the session and its user. Returns the steps; the last one is the failure, if there is one.
    ///
    /// - Throws: ``PostgresError``.
    func findings() async throws -> [Finding] {
        var steps: [Finding] = []
        do {
            try await follow(&steps)
        } catch let lost as Lost {
            steps.append(lost.finding)
        }
        return steps
    }

    private func follow(_ steps: inout [Finding]) async throws {
        guard let sessions else {
            throw Lost("APP_KEY is not set: no cookie is accepted", "Set APP_KEY as Laravel's .env has it.")
        }
        let cookie = try named(sessions)
        steps.append(.ok(Self.subject, "its name '\(cookie.name)' is the expected one"))
        let (plain, key) = try opened(cookie.value, sessions)
        steps.append(.ok(Self.subject, "\(Self.name(ofKey: key)) opens it"))
        guard let id = sessions.encrypter.content(plain, of: cookie.name, key: key) else {
            throw Lost(
                "it was made for a cookie of another name",
                "Copy name and value of one cookie; or set SESSION_COOKIE to the name in Laravel's config/session.php.")
        }
        guard LaravelSessions.isID(id) else {
            throw Lost("it does not hold the id of a session", "Copy the session's cookie; see its name above.")
        }
        let stored = try await stored(id, sessions)
        let age = (now.microseconds - stored.usedAt.microseconds) / 60_000_000
        let lifetime = sessions.lifetime.components.seconds / 60
        guard stored.usedAt > now.advanced(by: .zero - sessions.lifetime) else {
            throw Lost(
                "its session was last used \(age) minutes ago and lives \(lifetime)",
                "Log in again; or set SESSION_LIFETIME as Laravel's .env has it.")
        }
        steps.append(.ok(Self.subject, "its session was last used \(max(0, age)) minutes ago and lives \(lifetime)"))
        try await steps.append(contentsOf: user(of: stored, sessions))
    }

    /// The cookie that admin-api would read.
    private func named(_ sessions: LaravelSessions) throws -> (name: String, value: String) {
        let cookies = text.reveal().trimmingPrefix(/[Cc]ookie:\s*/).split(separator: ";").map {
            LaravelSessions.cookie(String($0))
        }
        if let known = cookies.first(where: { sessions.cookieNames.contains($0.name) }) { return known }
        let expected = sessions.cookieNames.map { "'\($0)'" }.joined(separator: " or ")
        // The token of a form looks like an id.
        let other = cookies.first { name, value in
            name != "XSRF-TOKEN" && sessions.encrypter.cookie(name, value).map(LaravelSessions.isID) == true
        }
        if let other {
            throw Lost(
                "it is Laravel's, but its name is '\(other.name)' and not \(expected)",
                "Set SESSION_COOKIE=\(other.name).")
        }
        let names = cookies.map { "'\($0.name.prefix(80))'" }.joined(separator: ", ")
        throw Lost(
            "its name is \(names.isEmpty ? "missing" : names), and \(expected) is expected",
            "Give it as name=value. Set APP_NAME as Laravel's .env has it, or SESSION_COOKIE to the cookie's name.")
    }

    private func opened(_ value: String, _ sessions: LaravelSessions) throws -> (plain: [UInt8], key: Int) {
        do {
            return try sessions.encrypter.open(value)
        } catch .noPayload {
            throw Lost(
                "its value is not what Laravel encrypts: base64 of JSON",
                "Copy the whole value, also its end such as %3D.")
        } catch .otherCipher {
            throw Lost(
                "it was encrypted with a cipher that is not supported",
                "Laravel's config/app.php must have the cipher AES-256-CBC.")
        } catch .otherKey {
            let count = sessions.encrypter.keys.count
            throw Lost(
                "\(count == 1 ? "APP_KEY did" : "APP_KEY and the \(count - 1) of APP_PREVIOUS_KEYS did") not make it",
                "Set APP_KEY and APP_PREVIOUS_KEYS as the .env of the Laravel that made it has them.")
        } catch .damaged {
            throw Lost("its contents cannot be decrypted", "Copy it again.")
        }
    }

    private static func name(ofKey place: Int) -> String {
        place == 0 ? "APP_KEY" : "number \(place) of APP_PREVIOUS_KEYS"
    }

    private func stored(_ id: String, _ sessions: LaravelSessions) async throws -> Stored {
        switch sessions.driver {
        case .files(let folder):
            guard let file = await LaravelSessions.file(id, in: folder) else {
                throw Lost(
                    "its session has no file in the folder of SESSION_FILES",
                    "Log in again; or set SESSION_DRIVER and SESSION_FILES as Laravel has them.")
            }
            guard let contents = sessions.contents(file.bytes) else { throw unreadable(sessions) }
            return Stored(
                userID: LaravelSessions.userID(in: contents), contents: contents,
                usedAt: Timestamp(microseconds: Int64(file.usedAt.timeIntervalSince1970 * 1_000_000)))
        case .database(let name):
            guard let row = try await row(id, name) else {
                throw Lost(
                    "its session has no row in \(name)",
                    "Log in again; or set SESSION_DRIVER, SESSION_TABLE and the database as Laravel has them.")
            }
            guard let contents = Data(base64Encoded: row.payload).flatMap({ sessions.contents(Array($0)) }) else {
                throw unreadable(sessions)
            }
            return Stored(userID: row.userID, contents: contents, usedAt: row.usedAt)
        }
    }

    private func unreadable(_ sessions: LaravelSessions) -> Lost {
        Lost(
            "the contents of its session cannot be read with SESSION_ENCRYPT=\(sessions.isEncrypted)",
            "Set SESSION_ENCRYPT as Laravel's .env has it; config/session.php must serialize by php or json.")
    }

    private func row(_ id: String, _ name: String) async throws -> StoredSession? {
        guard let table = SessionTable(name) else { throw Lost("SESSION_TABLE \(SessionTable.rule)", "Correct it.") }
        do {
            return try await database.withConnection { try StoredSession.find(id, in: table, $0) }
        } catch let error as PostgresError where error.sqlState == "42501" {
            throw Lost(
                "the role may not read \(name)", "Run the doctor with ADMIN_DATABASE_URL, after 'codexflow grants'.")
        } catch let error as PostgresError where ["42P01", "3F000", "42703"].contains(error.sqlState) {
            throw Lost(
                "\(name) is not a table of Laravel's sessions in this database",
                "Set SESSION_DRIVER and SESSION_TABLE as Laravel's .env has them.")
        }
    }

    private func user(of stored: Stored, _ sessions: LaravelSessions) async throws -> [Finding] {
        guard let id = stored.userID else {
            throw Lost("nobody is logged in by its session", "Log in, and copy the cookie after that.")
        }
        guard let (user, hash) = try await database.withConnection({ try UserProfile.findForSession(id, $0) }) else {
            throw Lost("its user \(id) is not there", "Log in as a user of this database.")
        }
        guard sessions.isCurrent(stored.contents, passwordHash: hash) else {
            throw Lost("the password of its user \(id) was changed since", "Log in again.")
        }
        guard user.isActive else {
            throw Lost("its user \(id) is suspended", "Ask an administrator.")
        }
        let found = Finding.ok(Self.subject, "it is user \(id)\(user.isAdmin ? ", an administrator" : "")")
        guard stored.contents?["_token"]?.text?.isEmpty == false else {
            return [
                found,
                .warning(
                    Self.subject, "its session has no CSRF token: only reads are answered", "Open a page of Laravel."),
            ]
        }
        return [found]
    }
}
