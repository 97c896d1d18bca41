package import Crypto

/// The identity under which an event is stored once, 128 bits written as a UUID (`design.md` §4).
///
/// The first 48 bits are milliseconds, as in UUIDv7 (RFC 9562 §5.7), so that keys of one time lie together and a month is a
/// key range; the rest is a SHA-256 of what identifies the event, so that a re-sent event always meets its twin.
package struct EventKey: Sendable, Hashable, Comparable {
    package let high: UInt64
    package let low: UInt64

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

    /// The key of a documented-shape event that its sender named by an `Idempotency-Key` header or `event_id`.
    ///
    /// Such a name carries no time, so these keys lie in a range of their own above every month (`ffff…`).
    package init(idempotencyKey: String) {
        let digest = SHA256.hash(of: idempotencyKey)
        high = 0xFFFF << 48 | digest.word(at: 0) >> 16
        low = digest.word(at: 6)
    }

    /// The key of an event that nobody named: every delivery counts, so it is random.
    package init(arrival: Timestamp, using generator: inout some RandomNumberGenerator) {
        let prefix = UInt64(min(max(arrival.milliseconds, 0), 0xFFFE_FFFF_FFFF))
        high = prefix << 16 | UInt64.random(in: 0...0xFFFF, using: &generator)
        low = .random(in: .min ... .max, using: &generator)
    }

    /// Whether the key is in the range of names given by a sender.
    package var isIdempotencyKey: Bool { high >> 48 == 0xFFFF }

    package static func < (left: EventKey, right: EventKey) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

extension EventKey: CustomStringConvertible, LosslessStringConvertible {
    /// The UUID text, lower case with hyphens.
    package var description: String {
        let hex = [high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } }
            .lowercaseHex
        let parts = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32]
        let digits = Array(hex.utf8)
        return parts.map { String(decoding: digits[$0], as: UTF8.self) }.joined(separator: "-")
    }

    package init?(_ description: String) {
        let hex = description.filter { $0 != "-" }
        guard hex.utf8.count == 32, let bytes = [UInt8](lowercaseHex: hex) else { return nil }
        high = bytes[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes[8..<16].reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension EventKey: Codable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let key = EventKey(text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "An event key is a UUID."))
        }
        self = key
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
