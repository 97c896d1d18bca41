package import Crypto
internal import CryptoExtras
internal import Domain
internal import Foundation

/// Laravel's encryption of cookies and sessions: AES-CBC under `APP_KEY`, with a MAC (`laravel.md` §5).
package struct LaravelEncrypter: Sendable {
    /// Why a payload does not open.
    package enum Problem: Error, Sendable, Hashable {
        /// It is not base64 of a JSON object with what Laravel puts there.
        case noPayload
        /// It was made with a cipher that has no MAC, such as AES-256-GCM.
        case otherCipher
        /// None of the keys made it, or somebody changed it.
        case otherKey
        /// Its MAC is right, its contents are not.
        case damaged
    }

    /// The current key and those before it.
    package let keys: [SymmetricKey]

    /// What `payload` holds, and the place of the key that opened it.
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

    /// What the text of the opened cookie `name` says, `nil` where it was made for another name: a value is bound to
    /// its cookie, so that one cannot stand for another.
    package func content(_ plain: [UInt8], of name: String, key: Int) -> String? {
        let prefix = HMAC<Insecure.SHA1>.authenticationCode(for: Data("\(name)v2".utf8), using: keys[key])
        let text = String(decoding: plain, as: UTF8.self)
        let expected = "\(prefix.lowercaseHex)|"
        return text.hasPrefix(expected) ? String(text.dropFirst(expected.count)) : nil
    }

    /// What the cookie `name` says; `nil` where it is not one of Laravel's.
    package func cookie(_ name: String, _ value: String) -> String? {
        guard let (plain, key) = try? open(value) else { return nil }
        return content(plain, of: name, key: key)
    }
}
