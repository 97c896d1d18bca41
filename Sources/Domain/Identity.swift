import Crypto

/// What an event says about its user. Attribution turns it into a user, or rejects it.
package struct IdentityClaim: Sendable, Hashable, Codable {
    /// The hashes that the stated key can have, most likely first. A text of 64 hexadecimal digits is a hash, or a key
    /// that looks like one.
    package var keyHashes: [KeyHash]
    /// Whether ``userID`` counts when the key is unknown. This is so only for a documented event's numeric `user_id`,
    /// which can be a key or an id.
    package var isKeyOptional: Bool
    /// `laravel_user_id` in the proxy's own metadata.
    package var laravelUserID: Int64?
    /// A numeric user id.
    package var userID: Int64?
    /// The stated key in clear text, for a look-up in `users.api_key`. It is never stored, coded or printed.
    package var presentedKey: PresentedKey?

    /// A claim by these keys and ids; none of them by default.
    package init(
        keyHashes: [KeyHash] = [], isKeyOptional: Bool = false, laravelUserID: Int64? = nil, userID: Int64? = nil,
        presentedKey: String? = nil
    ) {
        self.keyHashes = keyHashes
        self.isKeyOptional = isKeyOptional
        self.laravelUserID = laravelUserID
        self.userID = userID
        self.presentedKey = presentedKey.map(PresentedKey.init)
    }

    private enum CodingKeys: String, CodingKey {
        case keyHashes, isKeyOptional, laravelUserID, userID
    }

    /// Whether the key may have been stated as a hash. No index of Laravel's table finds a hash.
    package var mayBeHash: Bool { presentedKey == nil || keyHashes.count > 1 }

    /// Whether the event names no user.
    package var isEmpty: Bool { keyHashes.isEmpty && laravelUserID == nil && userID == nil }
}

/// A customer's key in clear text, in memory only. Its description is `***`.
package struct PresentedKey: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The key.
    package let text: String

    /// The key `text`.
    package init(_ text: String) {
        self.text = text
    }

    package var description: String { "***" }
    package var debugDescription: String { "***" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// The SHA-256 of a customer's key. No key is kept in another form.
package struct KeyHash: Sendable, Hashable {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// The hash of the whole key, as LiteLLM and our `custom_auth` compute it (`docs/litellm.md`).
    package init(of key: String) {
        bytes = Array(SHA256.hash(of: key))
    }

    /// A hash of 32 bytes; `nil` for another number of bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    /// A hash written as 64 lower-case hexadecimal digits; `nil` for another text.
    package init?(hex: String) {
        guard hex.utf8.count == 64, let bytes = [UInt8](lowercaseHex: hex) else { return nil }
        self.bytes = bytes
    }

    /// 64 lower-case hexadecimal digits.
    package var hex: String { bytes.lowercaseHex }
}

extension KeyHash: Codable {
    /// Reads 64 hexadecimal digits.
    ///
    /// - Throws: `DecodingError` for another text.
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let hash = KeyHash(hex: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "A key hash is 64 lower-case hex digits."))
        }
        self = hash
    }

    /// Writes 64 hexadecimal digits.
    ///
    /// - Throws: What `encoder` throws.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(hex)
    }
}

/// A customer's key: `cf_` and 64 hexadecimal digits, which are 256 random bits.
package enum APIKey {
    /// A new key from the system's cryptographically secure generator.
    package static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        return "cf_" + (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }.lowercaseHex
    }
}
