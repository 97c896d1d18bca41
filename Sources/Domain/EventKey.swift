package import Crypto

/// The key under which an event is stored once: 128 bits, written as a UUID.
///
/// The first 48 bits are milliseconds, as in UUIDv7 (RFC 9562 §5.7). So keys of one time lie together, and a month is a
/// range of keys. The other bits are a SHA-256 of what identifies the event, so an event that is sent again has the
/// same key.
package struct EventKey: Sendable, Hashable, Comparable {
    /// The first 64 bits.
    package let high: UInt64
    /// The last 64 bits.
    package let low: UInt64

    /// The key of these bits.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The key of an event that started `milliseconds` after 1970 and is identified by `digest`.
    package init(milliseconds: Int64, digest: SHA256.Digest) {
        let prefix = UInt64(min(max(milliseconds, 0), 0xFFFE_FFFF_FFFF))
        high = prefix << 16 | digest.word(at: 0) >> 48
        low = digest.word(at: 2)
    }

    /// The key of a documented event with an idempotency key (the header `Idempotency-Key`, or `event_id`).
    ///
    /// An idempotency key has no time. So these keys lie in a range of their own after every month (`ffff…`).
    package init(idempotencyKey: String) {
        let digest = SHA256.hash(of: idempotencyKey)
        high = 0xFFFF << 48 | digest.word(at: 0) >> 16
        low = digest.word(at: 6)
    }

    /// The random key of an event without an idempotency key, of which every delivery counts.
    package init(arrival: Timestamp, using generator: inout some RandomNumberGenerator) {
        let prefix = UInt64(min(max(arrival.milliseconds, 0), 0xFFFE_FFFF_FFFF))
        high = prefix << 16 | UInt64.random(in: 0...0xFFFF, using: &generator)
        low = .random(in: .min ... .max, using: &generator)
    }

    /// The lowest key of an event that started at `moment`.
    package static func first(at moment: Timestamp) -> EventKey {
        EventKey(high: UInt64(min(max(moment.milliseconds, 0), 0xFFFE_FFFF_FFFF)) << 16, low: 0)
    }

    /// The lowest key of an event with an idempotency key.
    package static let firstNamed = EventKey(high: 0xFFFF << 48, low: 0)

    /// Whether the key was made from an idempotency key.
    package var isIdempotencyKey: Bool { high >> 48 == 0xFFFF }

    /// The order of keys in PostgreSQL: by bytes.
    package static func < (left: EventKey, right: EventKey) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

extension EventKey: CustomStringConvertible, LosslessStringConvertible {
    /// Where a UUID's text has its hyphens.
    private static let hyphens = [8, 13, 18, 23]

    /// The UUID's text in lower case with hyphens. It is written by hand, as the key of every stored event goes to
    /// PostgreSQL and back.
    package var description: String {
        String(unsafeUninitializedCapacity: 36) { text in
            var shift = 128
            for index in 0..<36 {
                if Self.hyphens.contains(index) {
                    text[index] = UInt8(ascii: "-")
                    continue
                }
                shift -= 4
                let word = shift >= 64 ? high : low
                let digit = UInt8(truncatingIfNeeded: word >> UInt64(shift & 63)) & 0xF
                text[index] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            }
            return 36
        }
    }

    /// The key of a UUID's text, lower case, with hyphens or without.
    package init?(_ description: String) {
        var words: (high: UInt64, low: UInt64) = (0, 0)
        var digits = 0
        for byte in description.utf8 where byte != UInt8(ascii: "-") {
            guard let digit = byte.lowercaseHexDigit else { return nil }
            words.high = words.high << 4 | words.low >> 60
            words.low = words.low << 4 | UInt64(digit)
            digits += 1
        }
        guard digits == 32 else { return nil }
        (high, low) = words
    }
}

extension EventKey: Codable {
    /// Reads the text of a UUID.
    ///
    /// - Throws: `DecodingError` for another text.
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let key = EventKey(text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "An event key is a UUID."))
        }
        self = key
    }

    /// Writes the text of the UUID.
    ///
    /// - Throws: What `encoder` throws.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
