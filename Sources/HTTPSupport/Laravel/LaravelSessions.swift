package import Bootstrap
package import Crypto
internal import CryptoExtras
internal import Domain
package import Foundation
package import HTTPTypes

/// Laravel's browser sessions, as its own settings describe them.
package struct LaravelSessions: Sendable {
    /// Where sessions are stored.
    package enum Driver: Sendable, Hashable {
        /// The table `SESSION_TABLE` of our database.
        case database(table: String)
        /// The folder `storage/framework/sessions`.
        case files(String)
    }

    /// Where sessions are stored.
    package let driver: Driver
    /// Decrypts cookies, and payloads where they are encrypted.
    package let encrypter: LaravelEncrypter
    /// `APP_KEY` as written, the key of Laravel's digests of passwords.
    package let appKey: Secret
    /// The possible names of the cookie.
    package let cookieNames: [String]
    /// How long a session lives after its last use.
    package let lifetime: Duration
    /// Whether the payload is encrypted too.
    package let isEncrypted: Bool

    /// The key of the user's id in a session's data, for Laravel's guard `web`.
    private static let loginKey =
        "login_web_" + Insecure.SHA1.hash(data: Data(#"Illuminate\Auth\SessionGuard"#.utf8)).lowercaseHex

    /// The keys under which `AuthenticateSession`, Laravel's or Sanctum's, keeps the password digest.
    private static let passwordKeys = ["password_hash_web", "password_hash_sanctum", "password_hash"]
    /// The digest key that Laravel uses without `APP_KEY`.
    private static let standardKey = "base-key-for-password-hash-mac"

    /// Laravel's settings of sessions, under Laravel's names, and `SESSION_FILES`, the folder of the driver `file`.
    package static let table: SettingsTable = [
        Setting(
            "APP_KEY", .secret,
            "Laravel's key, which opens its session cookies; only tokens are accepted where it is empty."),
        Setting("APP_PREVIOUS_KEYS", .secret, "Laravel's older keys, separated by commas."),
        Setting(
            "APP_NAME", .text,
            "Laravel's name, from which the name of its session cookie is made, unless SESSION_COOKIE is set."),
        Setting("SESSION_COOKIE", .text, "The name of Laravel's session cookie."),
        Setting(
            "SESSION_DRIVER", .word(["database", "file"]), default: "database",
            "Where Laravel keeps sessions; other drivers are refused."),
        sessionTable,
        Setting(
            "SESSION_FILES", .text, "Laravel's folder storage/framework/sessions, for the driver file."),
        Setting(
            "SESSION_LIFETIME", .number(1...525_600), default: "120",
            "How many minutes a session lives after its last use."),
        Setting("SESSION_ENCRYPT", .boolean, default: "false", "Whether Laravel encrypts what a session holds."),
        Setting(
            "DB_CONNECTION", .text, default: "pgsql",
            "Laravel's connection; only compared with SESSION_CONNECTION."),
        Setting(
            "SESSION_CONNECTION", .text,
            "Laravel's connection for sessions; refused where it is another one than DB_CONNECTION."),
    ]

    /// The table of Laravel's sessions, which `codexflow grants` needs too.
    package static let sessionTable = Setting(
        "SESSION_TABLE", .text, default: "sessions",
        "The table of Laravel's sessions, also in another schema, such as app.sessions.")

    /// Reads ``table``.
    ///
    /// `nil` without `APP_KEY`. Another driver than `database` or `file`, an unreadable folder, and sessions in another
    /// database are problems of `settings`.
    package init?(reading settings: SettingsReader) {
        guard let current = settings.secret(Self.table["APP_KEY"]) else { return nil }
        let older = settings.secret(Self.table["APP_PREVIOUS_KEYS"])?.reveal()
        let previous = older?.split(separator: ",").map(String.init) ?? []
        let keys = ([("APP_KEY", current.reveal())] + previous.map { ("APP_PREVIOUS_KEYS", $0) }).compactMap {
            name, text in
            let key = Self.key(text)
            if key == nil { settings.reject(name, "is not a key of 32 bytes, as 'php artisan key:generate' makes it") }
            return key
        }
        let isFile = settings.choice(Self.table["SESSION_DRIVER"], of: ["database": false, "file": true])
        driver = isFile ? .files(Self.folder(settings)) : .database(table: Self.table(settings))
        encrypter = LaravelEncrypter(keys: keys)
        appKey = current
        cookieNames =
            settings.optionalString(Self.table["SESSION_COOKIE"]).map { [$0] }
            ?? Self.cookieNames(appName: settings.optionalString(Self.table["APP_NAME"]))
        lifetime = .seconds(60 * settings.int(Self.table["SESSION_LIFETIME"]))
        isEncrypted = settings.bool(Self.table["SESSION_ENCRYPT"])
    }

    /// The cookie names that versions of Laravel use for an application called `appName`: version 12, the version
    /// before, and version 13 with some of 12. Without a name, Laravel uses `laravel`, or an empty name.
    package static func cookieNames(appName: String?) -> [String] {
        let names = (appName.map { [$0] } ?? ["laravel", ""]).flatMap { name in
            ["\(name.slug("-"))-session", "\(name.slug("_"))_session", "\(name.snake)_session"]
        }
        return names.indices.filter { names.firstIndex(of: names[$0]) == $0 }.map { names[$0] }
    }

    private static func folder(_ settings: SettingsReader) -> String {
        var isFolder: ObjCBool = false
        let folder = settings.optionalString(table["SESSION_FILES"])
        let isThere = folder.map { FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) } ?? false
        if !isThere || !isFolder.boolValue {
            settings.reject(
                "SESSION_FILES",
                "is not the folder storage/framework/sessions of Laravel, which SESSION_DRIVER=file needs")
        }
        return folder ?? ""
    }

    private static func table(_ settings: SettingsReader) -> String {
        let standard = settings.string(table["DB_CONNECTION"])
        if let other = settings.optionalString(table["SESSION_CONNECTION"]), other != standard {
            settings.reject(
                "SESSION_CONNECTION",
                "is another connection than DB_CONNECTION; sessions are read from our database. Unset it here where "
                    + "both lead to one database")
        }
        return settings.string(sessionTable)
    }

    private static func key(_ text: String) -> SymmetricKey? {
        let data = text.hasPrefix("base64:") ? Data(base64Encoded: String(text.dropFirst(7))) : Data(text.utf8)
        return data.flatMap { $0.count == 32 ? SymmetricKey(data: $0) : nil }
    }

    /// The session id of one of the request's cookies; `nil` where no cookie is Laravel's.
    package func sessionID(in headers: HTTPFields) -> String? {
        let cookies = headers[values: .cookie].flatMap { $0.split(separator: ";") }.map { Self.cookie(String($0)) }
        return cookies.lazy.compactMap { name, value in
            cookieNames.contains(name) ? encrypter.cookie(name, value).flatMap { Self.isID($0) ? $0 : nil } : nil
        }.first
    }

    /// A cookie's name and value as PHP reads them from `name=value`.
    package static func cookie(_ text: String) -> (name: String, value: String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let value = parts.count == 2 ? String(parts[1]).trimmingCharacters(in: .whitespacesAndNewlines) : ""
        return (
            parts[0].trimmingCharacters(in: .whitespacesAndNewlines), value.removingPercentEncoding ?? value
        )
    }

    /// Whether `text` is a session id. Anything else must not become the name of a file.
    package static func isID(_ text: String) -> Bool { text.wholeMatch(of: /[A-Za-z0-9]{40}/) != nil }

    /// A session's data: PHP's serialisation or JSON, wrapped once more where it is encrypted.
    package func contents(_ bytes: [UInt8]) -> JSON? {
        guard isEncrypted else { return JSON(phpSerialized: bytes) ?? JSON(parsing: bytes) }
        guard let (plain, _) = try? encrypter.open(String(decoding: bytes, as: UTF8.self)),
            let inner = JSON(phpSerialized: plain)?.text.map({ Array($0.utf8) })
        else { return nil }
        return JSON(phpSerialized: inner) ?? JSON(parsing: inner)
    }

    /// The id of the logged-in user.
    package static func userID(in contents: JSON) -> Int64? {
        guard case .number(let user)? = contents[loginKey] else { return nil }
        return Int64(user)
    }

    /// Whether the password is unchanged since the session's last use. A new password ends all other sessions where
    /// Laravel's middleware `AuthenticateSession` remembers the hash. Before 12.45 it remembers the hash itself, since
    /// then an HMAC of it.
    package func isCurrent(_ contents: JSON?, passwordHash: String) -> Bool {
        let keys = [appKey.reveal(), Self.standardKey].map { SymmetricKey(data: Data($0.utf8)) }
        let digests = keys.map {
            HMAC<SHA256>.authenticationCode(for: Data(passwordHash.utf8), using: $0).lowercaseHex
        }
        return Self.passwordKeys.compactMap { contents?[$0]?.text }.allSatisfy { known in
            ([passwordHash] + digests).reduce(false) { $0 || known.isSameSecret(as: $1) }
        }
    }

    /// The file of the session `id` and the time of its last use, read on a thread that may wait for a disk.
    package static func file(_ id: String, in folder: String) async -> (bytes: [UInt8], usedAt: Date)? {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                let path = "\(folder)/\(id)"
                let changed = try? FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
                let data = changed.flatMap { _ in try? Data(contentsOf: URL(filePath: path)) }
                continuation.resume(returning: changed.flatMap { date in data.map { (Array($0), date) } })
            }
        }
    }
}

extension String {
    /// Whether two secrets of one length are equal, compared in constant time.
    package func isSameSecret(as other: String) -> Bool {
        utf8.count == other.utf8.count && zip(utf8, other.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

/// Laravel's encryption of cookies and sessions: AES-CBC with `APP_KEY`, and a MAC.
package struct LaravelEncrypter: Sendable {
    /// Why a payload cannot be decrypted.
    package enum Problem: Error, Sendable, Hashable {
        /// It is not base64 of a JSON object with Laravel's fields.
        case noPayload
        /// Its cipher has no MAC, as AES-256-GCM.
        case otherCipher
        /// No key matches, or it was changed.
        case otherKey
        /// Its MAC is right, but its contents are damaged.
        case damaged
    }

    /// The current key and the keys before it.
    package let keys: [SymmetricKey]

    /// Decrypts `payload`, and returns the index of the key that it was encrypted with.
    ///
    /// - Throws: ``Problem`` when it cannot be decrypted.
    package func open(_ payload: String) throws(Problem) -> (plain: [UInt8], key: Int) {
        guard let data = Data(base64Encoded: payload), let fields = JSON(parsing: Array(data)),
            let iv = fields["iv"]?.text, let value = fields["value"]?.text, let mac = fields["mac"]?.text
        else { throw .noPayload }
        guard !mac.isEmpty else { throw .otherCipher }
        guard let mac = [UInt8](lowercaseHex: mac), let nonce = Data(base64Encoded: iv),
            let ciphertext = Data(base64Encoded: value)
        else { throw .noPayload }
        let authenticated = Data((iv + value).utf8)
        let made = keys.indices.first { index in
            HMAC<SHA256>.isValidAuthenticationCode(mac, authenticating: authenticated, using: keys[index])
        }
        guard let made else { throw .otherKey }
        guard let iv = try? AES._CBC.IV(ivBytes: nonce),
            let plain = try? AES._CBC.decrypt(ciphertext, using: keys[made], iv: iv)
        else { throw .damaged }
        return (Array(plain), made)
    }

    /// The value in the decrypted text of the cookie `name`; `nil` where it was made for another name. The name is
    /// bound to the value, so that one cookie cannot replace another.
    package func content(_ plain: [UInt8], of name: String, key: Int) -> String? {
        let prefix = HMAC<Insecure.SHA1>.authenticationCode(for: Data("\(name)v2".utf8), using: keys[key])
        let text = String(decoding: plain, as: UTF8.self)
        let expected = "\(prefix.lowercaseHex)|"
        return text.hasPrefix(expected) ? String(text.dropFirst(expected.count)) : nil
    }

    /// The value of the cookie `name`; `nil` where the cookie is not Laravel's.
    package func cookie(_ name: String, _ value: String) -> String? {
        guard let (plain, key) = try? open(value) else { return nil }
        return content(plain, of: name, key: key)
    }
}

extension JSON {
    /// Parses what PHP's `serialize` wrote; `nil` where `bytes` are something else, or are nested deeper than 64
    /// levels.
    ///
    /// Arrays become objects whose keys are texts. Objects become objects with their members. References become null.
    package init?(phpSerialized bytes: [UInt8]) {
        var reader = PHPReader(bytes: bytes)
        guard let value = reader.value(depth: 0), reader.isAtEnd else { return nil }
        self = value
    }
}

/// A parser of one serialised value (php.net, "serialize"; the grammar is php-src's `var_unserializer.re`).
private struct PHPReader {
    private static let maximumDepth = 64

    let bytes: [UInt8]
    private var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    var isAtEnd: Bool { position == bytes.count }

    mutating func value(depth: Int) -> JSON? {
        guard depth < Self.maximumDepth, position < bytes.count else { return nil }
        let kind = bytes[position]
        position += 1
        if kind == UInt8(ascii: "N") { return take(";") ? .null : nil }
        guard take(":") else { return nil }
        switch kind {
        case UInt8(ascii: "b"): return text(upTo: ";").map { .bool($0 == "1") }
        case UInt8(ascii: "i"): return text(upTo: ";").flatMap { Int64($0) }.map(JSON.integer)
        case UInt8(ascii: "d"): return text(upTo: ";").map(JSON.string)
        case UInt8(ascii: "r"), UInt8(ascii: "R"): return text(upTo: ";").map { _ in .null }
        case UInt8(ascii: "s"): return quoted().flatMap { take(";") ? .string($0) : nil }
        case UInt8(ascii: "E"): return quoted().flatMap { take(";") ? .string($0) : nil }
        case UInt8(ascii: "a"): return members(depth: depth)
        case UInt8(ascii: "O"): return quoted() != nil && take(":") ? members(depth: depth) : nil
        default: return nil
        }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: byte) else { return false }
        position += 1
        return true
    }

    private mutating func text(upTo end: Unicode.Scalar) -> String? {
        guard let index = bytes[position...].firstIndex(of: UInt8(ascii: end)) else { return nil }
        defer { position = index + 1 }
        return String(decoding: bytes[position..<index], as: UTF8.self)
    }

    /// `5:"hello"`. The length counts bytes.
    private mutating func quoted() -> String? {
        guard let length = text(upTo: ":").flatMap({ Int($0) }), length >= 0, take("\""),
            length < bytes.count - position
        else { return nil }
        let text = String(decoding: bytes[position..<position + length], as: UTF8.self)
        position += length
        return take("\"") ? text : nil
    }

    /// `2:{key value key value}`
    private mutating func members(depth: Int) -> JSON? {
        guard let count = text(upTo: ":").flatMap({ Int($0) }), count >= 0, take("{") else { return nil }
        var members: [JSON.Member] = []
        for _ in 0..<count {
            guard let key = value(depth: depth + 1), let value = value(depth: depth + 1) else { return nil }
            switch key {
            case .string(let name), .number(let name): members.append(.init(name, value))
            default: return nil
            }
        }
        return take("}") ? .object(members) : nil
    }
}
