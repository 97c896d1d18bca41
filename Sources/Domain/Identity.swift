import Crypto

/// What an event says about who made the call (`design.md` §4, Identity); not yet a user.
package struct IdentityClaim: Sendable, Hashable, Codable {
    /// The hashes that the stated key can have, most likely first: a text of 64 hex digits is a hash, and could also be a
    /// key that happens to look like one.
    package var keyHashes: [KeyHash]
    /// Whether an unknown key may fall through to ``userID``: only a documented event's numeric `user_id`, which is
    /// one text with two readings.
    package var isKeyOptional: Bool
    /// `laravel_user_id` of the proxy's own metadata.
    package var laravelUserID: Int64?
    /// A numeric user id.
    package var userID: Int64?
    /// The stated key in clear, to look up `users.api_key` at once. Never stored, never coded, never printed.
    package var presentedKey: PresentedKey?

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

    /// Whether the key may have been stated as a hash, which no index of Laravel's finds.
    package var mayBeHash: Bool { presentedKey == nil || keyHashes.count > 1 }

    /// Whether the event names anybody at all.
    package var isEmpty: Bool { keyHashes.isEmpty && laravelUserID == nil && userID == nil }
}

/// A customer's key in clear, on its way through memory; its description shows nothing.
package struct PresentedKey: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package var description: String { "***" }
    package var debugDescription: String { "***" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// The SHA-256 of a customer's key; the only form in which this project keeps one (`design.md` §1.7).
package struct KeyHash: Sendable, Hashable {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// The hash of the whole key text, as LiteLLM and our `custom_auth` compute it (`litellm.md` §5).
    package init(of key: String) {
        bytes = Array(SHA256.hash(of: key))
    }

    /// A hash as a database keeps it; `nil` for any other number of bytes than 32.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    /// A hash written as 64 lower-case hexadecimal digits; `nil` for every other text.
    package init?(hex: String) {
        guard hex.utf8.count == 64, let bytes = [UInt8](lowercaseHex: hex) else { return nil }
        self.bytes = bytes
    }

    /// 64 lower-case hexadecimal digits.
    package var hex: String { bytes.lowercaseHex }
}

extension KeyHash: Codable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let hash = KeyHash(hex: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "A key hash is 64 lower-case hex digits."))
        }
        self = hash
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(hex)
    }
}

/// A customer's key: `cf_` and 64 hexadecimal digits, 256 random bits.
package enum APIKey {
    /// A new key from the system's generator, which is cryptographically secure.
    package static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        return "cf_" + (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }.lowercaseHex
    }
}
