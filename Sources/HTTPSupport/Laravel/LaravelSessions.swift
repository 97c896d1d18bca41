import Bootstrap
import Crypto
import Foundation

extension SessionReader {
    /// `APP_KEY`, `APP_PREVIOUS_KEYS`, `APP_NAME`, `SESSION_DRIVER`, `SESSION_COOKIE`, `SESSION_LIFETIME` (minutes) and
    /// `SESSION_ENCRYPT` as Laravel reads them, and `SESSION_FILES`, the folder of the driver `file`.
    ///
    /// `nil` without `APP_KEY`. A driver that is neither `database` nor `file`, and a folder that cannot be read, are problems of
    /// `settings`.
    init?(reading settings: SettingsReader) {
        guard let current = settings.secret("APP_KEY") else { return nil }
        let previous = settings.secret("APP_PREVIOUS_KEYS")?.reveal().split(separator: ",").map(String.init) ?? []
        let keys = ([("APP_KEY", current.reveal())] + previous.map { ("APP_PREVIOUS_KEYS", $0) }).compactMap {
            name, text in
            let key = Self.key(text)
            if key == nil { settings.reject(name, "is not a key of 32 bytes, as 'php artisan key:generate' makes it") }
            return key
        }
        let name = settings.string("APP_NAME", default: "Laravel")
        let cookie = settings.string("SESSION_COOKIE")
        let isFile = settings.choice("SESSION_DRIVER", of: ["database": false, "file": true], default: "database")
        let folder = isFile ? settings.string("SESSION_FILES") : nil
        if isFile {
            var isFolder: ObjCBool = false
            let isThere = folder.map { FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) } ?? false
            if !isThere || !isFolder.boolValue {
                settings.reject(
                    "SESSION_FILES",
                    "is not the folder storage/framework/sessions of Laravel, which SESSION_DRIVER=file needs")
            }
        }
        driver = folder.map { .files($0) } ?? .database
        encrypter = LaravelEncrypter(keys: keys)
        appKey = current
        // Laravel 12's default, and the one before.
        cookieNames = cookie.map { [$0] } ?? ["\(name.slug("-"))-session", "\(name.slug("_"))_session"]
        lifetime = .seconds(60 * settings.int("SESSION_LIFETIME", in: 1...525_600, default: 120))
        isEncrypted = settings.bool("SESSION_ENCRYPT", default: false)
    }

    private static func key(_ text: String) -> SymmetricKey? {
        let data = text.hasPrefix("base64:") ? Data(base64Encoded: String(text.dropFirst(7))) : Data(text.utf8)
        return data.flatMap { $0.count == 32 ? SymmetricKey(data: $0) : nil }
    }
}

extension String {
    /// Laravel's `Str::slug` of a name in Latin letters: lower case, everything else `separator`.
    fileprivate func slug(_ separator: String) -> String {
        lowercased().split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }.joined(separator: separator)
    }
}
