extension String {
    /// The first scalars that fit `count` bytes of UTF-8.
    package func prefix(utf8Count count: Int) -> String {
        guard utf8.count > count else { return self }
        var end = utf8.index(startIndex, offsetBy: count)
        while end > startIndex, utf8[end] & 0xC0 == 0x80 { end = utf8.index(before: end) }
        return String(self[..<end])
    }

    /// The text without what looks like a credential. Use it for every text that a client controls.
    ///
    /// `***` replaces tokens that begin like a key of this product, of LiteLLM or of its providers, bearer credentials,
    /// long runs of token characters that are not made of words, and every occurrence of `secrets`.
    package func scrubbed(of secrets: [String] = []) -> String {
        var text = self
        for secret in secrets where secret.utf8.count >= 4 { text = text.replacing(secretBytes: Array(secret.utf8)) }
        return text.withUTF8 { bytes in CredentialScanner(bytes: bytes).scrubbed() } ?? text
    }

    private func replacing(secretBytes secret: [UInt8]) -> String {
        var text = self
        let replaced = text.withUTF8 { bytes -> [UInt8]? in
            var result: [UInt8]?
            var copied = 0
            var position = 0
            while position + secret.count <= bytes.count {
                guard bytes[position] == secret[0], bytes[position..<(position + secret.count)].elementsEqual(secret)
                else {
                    position += 1
                    continue
                }
                result = (result ?? []) + bytes[copied..<position] + mask
                position += secret.count
                copied = position
            }
            return result.map { $0 + bytes[copied...] }
        }
        return replaced.map { String(decoding: $0, as: UTF8.self) } ?? text
    }
}

private let mask = Array("***".utf8)

/// Walks over a text token by token. A text without credentials is not copied.
private struct CredentialScanner {
    let bytes: UnsafeBufferPointer<UInt8>

    /// The scrubbed text; `nil` if nothing looks like a credential.
    func scrubbed() -> String? {
        var result: [UInt8]?
        var copied = 0
        var start = 0
        while start < bytes.count {
            guard bytes[start].isTokenCharacter else {
                start += 1
                continue
            }
            var end = start + 1
            while end < bytes.count, bytes[end].isTokenCharacter { end += 1 }
            if looksLikeCredential(start..<end) || followsBearer(start) {
                result = (result ?? []) + bytes[copied..<start] + mask
                copied = end
            }
            start = end
        }
        return result.map { String(decoding: $0 + bytes[copied...], as: UTF8.self) }
    }

    private func looksLikeCredential(_ range: Range<Int>) -> Bool {
        let token = bytes[range]
        if range.count >= 32 { return !isMadeOfWords(token) || beginsLikeKey(token) }
        return range.count >= 6 && beginsLikeKey(token)
    }

    private func beginsLikeKey(_ token: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        Self.prefixes.contains { token.starts(with: $0) }
    }

    /// Model names (`Llama-4-Maverick-17B-128E-Instruct-FP8`) and request ids (UUIDs) are long and no credentials.
    /// Their pieces are short, or have no digit.
    private func isMadeOfWords(_ token: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        token.split { $0 == 0x2D || $0 == 0x5F }
            .allSatisfy { $0.count <= 16 || !$0.contains { $0 >= 0x30 && $0 <= 0x39 } }
    }

    private func followsBearer(_ position: Int) -> Bool {
        guard position >= Self.bearer.count else { return false }
        return zip(bytes[(position - Self.bearer.count)..<position], Self.bearer).allSatisfy { $0 | 0x20 == $1 }
    }

    private static let bearer = Array("bearer ".utf8)

    /// How keys of this product, of LiteLLM and of its providers begin.
    private static let prefixes = ["cf_", "sk-", "pk-", "rk-", "gsk_", "xai-", "ghp_", "hf_", "AIza", "AKIA", "eyJ"]
        .map { Array($0.utf8) }
}

extension UInt8 {
    fileprivate var isTokenCharacter: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: true
        default: false
        }
    }
}

/// How much is kept of the error text of a proxy or provider (`METERING_ERROR_TEXT`). Providers repeat the prompt in
/// it, mostly in quotes or inside JSON.
package enum ErrorText: String, Sendable, CaseIterable {
    /// The error's class and code, such as `RateLimitError 429`.
    case code
    /// The first line up to the first quote or bracket, at most ``lineLimit`` characters.
    case line
    /// All of it, scrubbed of keys, at most 8 KiB.
    case full

    /// The most characters of a line that is kept.
    package static let lineLimit = 200
}
