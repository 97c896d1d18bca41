import Crypto
import CryptoExtras
import Domain
import Foundation
import HTTPSupport

/// Laravel's encryption of cookies and sessions: AES-CBC under `APP_KEY`, with a MAC (`laravel.md` §5).
struct LaravelEncrypter: Sendable {
    /// The current key and those before it.
    let keys: [SymmetricKey]

    /// What `payload` holds and under which key; `nil` where none of the keys made it, or somebody changed it.
    func decrypt(_ payload: String) -> (plain: [UInt8], key: SymmetricKey)? {
        guard let data = Data(base64Encoded: payload), let fields = JSON(parsing: Array(data)),
            let iv = fields["iv"]?.text, let value = fields["value"]?.text, let mac = fields["mac"]?.text,
            let mac = [UInt8](lowercaseHex: mac), let nonce = Data(base64Encoded: iv),
            let ciphertext = Data(base64Encoded: value)
        else { return nil }
        let authenticated = Data((iv + value).utf8)
        for key in keys
        where HMAC<SHA256>.isValidAuthenticationCode(mac, authenticating: authenticated, using: key) {
            guard let iv = try? AES._CBC.IV(ivBytes: nonce),
                let plain = try? AES._CBC.decrypt(ciphertext, using: key, iv: iv)
            else { return nil }
            return (Array(plain), key)
        }
        return nil
    }

    /// What the cookie `name` says: its value is bound to its name, so that one cookie cannot stand for another.
    func cookie(_ name: String, _ value: String) -> String? {
        guard let (plain, key) = decrypt(value) else { return nil }
        let prefix = HMAC<Insecure.SHA1>.authenticationCode(for: Data("\(name)v2".utf8), using: key)
        let text = String(decoding: plain, as: UTF8.self)
        let expected = "\(prefix.lowercaseHex)|"
        return text.hasPrefix(expected) ? String(text.dropFirst(expected.count)) : nil
    }
}
