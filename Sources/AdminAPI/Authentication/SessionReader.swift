import Bootstrap
import Crypto
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// Reads Laravel's own browser sessions (`laravel.md` §5); it never writes one.
struct SessionReader: Sendable {
    /// Where Laravel keeps its sessions.
    enum Driver: Sendable, Hashable {
        case database
        /// The folder `storage/framework/sessions`.
        case files(String)
    }

    /// Who is logged in, and what a page must show before it changes something.
    struct Session: Sendable, Hashable {
        let userID: Int64
        let csrfToken: String?
        /// What Laravel remembers of the password that was right when the session was last used.
        let passwordHashes: [String]

        fileprivate init(of userID: Int64, _ data: JSON?) {
            self.userID = userID
            csrfToken = data?["_token"]?.text
            passwordHashes = SessionReader.passwordKeys.compactMap { data?[$0]?.text }
        }
    }

    let driver: Driver
    let encrypter: LaravelEncrypter
    /// `APP_KEY` as it is written, by which Laravel digests what it remembers of passwords.
    let appKey: Secret
    /// The names the cookie may have.
    let cookieNames: [String]
    /// How long after its last use a session lives.
    let lifetime: Duration
    /// Whether the payload is encrypted too.
    let isEncrypted: Bool

    /// The key of the user's id in a session's data.
    private static let loginKey =
        "login_web_" + Insecure.SHA1.hash(data: Data(#"Illuminate\Auth\SessionGuard"#.utf8)).lowercaseHex

    /// Where `AuthenticateSession`, Laravel's or Sanctum's, keeps it for the guards of our users.
    private static let passwordKeys = ["password_hash_web", "password_hash_sanctum", "password_hash"]
    /// Laravel's key where there is no `APP_KEY`.
    private static let standardKey = "base-key-for-password-hash-mac"

    /// The session of `request`'s cookie; `nil` where there is none, it is not Laravel's, it has ended, or nobody is logged in.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.timeout`.
    func session(of request: Request, _ database: Database, now: Timestamp) async throws -> Session? {
        guard let id = sessionID(of: request) else { return nil }
        let end = now.advanced(by: .zero - lifetime)
        switch driver {
        case .database:
            guard let stored = try await database.read({ try StoredSession.find(id, usedAfter: end, $0) }),
                let user = stored.userID
            else { return nil }
            let data = Data(base64Encoded: stored.payload).flatMap { contents(Array($0)) }
            return Session(of: user, data)
        case .files(let folder):
            guard let bytes = await Self.file("\(folder)/\(id)", usedAfter: end), let data = contents(bytes),
                case .number(let user)? = data[Self.loginKey], let user = Int64(user)
            else { return nil }
            return Session(of: user, data)
        }
    }

    /// Whether the password is still the one with which the session was last used. A change of it ends every other
    /// session, where Laravel's middleware `AuthenticateSession` remembers the hash: itself before 12.45, then an HMAC
    /// of it.
    func isCurrent(_ session: Session, passwordHash: String) -> Bool {
        let keys = [appKey.reveal(), Self.standardKey].map { SymmetricKey(data: Data($0.utf8)) }
        let digests = keys.map {
            HMAC<SHA256>.authenticationCode(for: Data(passwordHash.utf8), using: $0).lowercaseHex
        }
        return session.passwordHashes.allSatisfy { known in
            ([passwordHash] + digests).reduce(false) { $0 || known.isSameSecret(as: $1) }
        }
    }

    /// Whether `request` shows the token of the session, as only a page of Laravel's own can: in `X-CSRF-TOKEN`, or encrypted in
    /// `X-XSRF-TOKEN`.
    func isProven(_ request: Request, by session: Session) -> Bool {
        guard let token = session.csrfToken, !token.isEmpty else { return false }
        let shown =
            request.headers[.csrfToken]
            ?? request.headers[.xsrfToken].flatMap { encrypter.cookie("XSRF-TOKEN", $0.removingPercentEncoding ?? $0) }
        return shown?.isSameSecret(as: token) ?? false
    }

    private func sessionID(of request: Request) -> String? {
        for name in cookieNames {
            guard let value = request.cookies[name]?.value.removingPercentEncoding,
                let id = encrypter.cookie(name, value), id.utf8.count == 40,
                id.utf8.allSatisfy({ Character(Unicode.Scalar($0)).isASCIILetterOrDigit })
            else { continue }
            return id
        }
        return nil
    }

    /// What a session remembers: PHP's serialisation or JSON, itself wrapped once more where it is encrypted.
    private func contents(_ bytes: [UInt8]) -> JSON? {
        guard isEncrypted else { return JSON(phpSerialized: bytes) ?? JSON(parsing: bytes) }
        guard let (plain, _) = encrypter.decrypt(String(decoding: bytes, as: UTF8.self)),
            let inner = JSON(phpSerialized: plain)?.text.map({ Array($0.utf8) })
        else { return nil }
        return JSON(phpSerialized: inner) ?? JSON(parsing: inner)
    }

    /// The contents of a file that was changed after `moment`, read on a thread that may wait for a disk.
    private static func file(_ path: String, usedAfter moment: Timestamp) async -> [UInt8]? {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                let changed = try? FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
                let seconds = Double(moment.microseconds) / 1_000_000
                let isLive = changed.map { $0.timeIntervalSince1970 > seconds } ?? false
                let data = isLive ? try? Data(contentsOf: URL(filePath: path)) : nil
                continuation.resume(returning: data.map { Array($0) })
            }
        }
    }
}

extension String {
    /// Whether two secrets of one length are equal, in a time that does not depend on where they differ.
    fileprivate func isSameSecret(as other: String) -> Bool {
        utf8.count == other.utf8.count && zip(utf8, other.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

extension Character {
    fileprivate var isASCIILetterOrDigit: Bool { isASCII && (isLetter || isNumber) }
}
