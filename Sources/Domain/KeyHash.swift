import Crypto

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
