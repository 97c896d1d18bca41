import Crypto
import CryptoExtras
import Domain
import Foundation

/// Laravel's side of its cookies and sessions, written from `docs/laravel.md` and not from the code under test.
struct LaravelCookie {
    static let key = "base64:" + Data((0..<32).map { UInt8($0) }).base64EncodedString()
    static let otherKey = "base64:" + Data((0..<32).map { UInt8(255 - $0) }).base64EncodedString()
    static let sessionID = "Abcdefghijklmnopqrstuvwxyz01234567890123"

    let key: SymmetricKey

    init(key: String = key) throws {
        self.key = SymmetricKey(data: Data(base64Encoded: String(key.dropFirst(7))) ?? Data())
    }

    /// `Crypt::encryptString`.
    func encrypt(_ plain: String) throws -> String {
        let nonce = Data((0..<16).map { _ in UInt8.random(in: .min ... .max) })
        let sealed = try AES._CBC.encrypt(Data(plain.utf8), using: key, iv: try AES._CBC.IV(ivBytes: nonce))
        let (iv, value) = (nonce.base64EncodedString(), sealed.base64EncodedString())
        let mac = HMAC<SHA256>.authenticationCode(for: Data((iv + value).utf8), using: key).lowercaseHex
        return Data(#"{"iv":"\#(iv)","value":"\#(value)","mac":"\#(mac)","tag":""}"#.utf8).base64EncodedString()
    }

    /// The value of the cookie `name`, as a browser sends it.
    func value(_ name: String, _ content: String = sessionID) throws -> String {
        let prefix = HMAC<Insecure.SHA1>.authenticationCode(for: Data("\(name)v2".utf8), using: key).lowercaseHex
        return try encrypt("\(prefix)|\(content)").replacing("=", with: "%3D").replacing("+", with: "%2B")
    }

    /// What a page of a user remembers, as PHP's `serialize` writes it.
    static func session(of user: Int, token: String, passwordHash: (key: String, value: String)? = nil) -> String {
        let hash =
            passwordHash.map { key, value in
                "s:\(key.utf8.count):\"\(key)\";s:\(value.utf8.count):\"\(value)\";"
            } ?? ""
        let login = "login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d"
        return """
            a:\(passwordHash == nil ? 5 : 6):{\(hash)s:6:"_token";s:\(token.utf8.count):"\(token)";\
            s:9:"_previous";a:1:{s:3:"url";s:22:"http://localhost/päge";}\
            s:6:"_flash";a:2:{s:3:"old";a:0:{}s:3:"new";a:0:{}}s:\(login.utf8.count):"\(login)";i:\(user);\
            s:5:"thing";O:8:"stdClass":2:{s:1:"a";b:1;s:1:"b";d:0.5;}}
            """
    }
}
