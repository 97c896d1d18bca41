internal import Domain

/// The beginning of a text that cannot be read, as an operator may see it.
enum Excerpt {
    /// 64 KiB.
    static let maximumLength = 65_536

    /// Members whose value is a key in clear, or can be.
    private static let secretNames = ["\"user_api_key_hash\"", "\"user_id\"", "\"api_key\""].map { Array($0.utf8) }

    /// The first 64 KiB of `text`: UTF-8 mended, NUL dropped, scrubbed of key patterns and of the values of members
    /// that hold keys, however they look.
    static func of(_ text: UnsafeRawBufferPointer) -> String {
        let text = UnsafeRawBufferPointer(rebasing: text.prefix(maximumLength))
        var kept: [UInt8] = []
        var position = 0
        while position < text.count {
            if let value = secretValue(in: text[position...]) {
                kept += text[position..<value.lowerBound] + Array("\"***\"".utf8)
                position = value.upperBound
            } else {
                if text[position] != 0 { kept.append(text[position]) }
                position += 1
            }
        }
        return String(decoding: kept, as: UTF8.self).scrubbed()
    }

    /// Where the string is that belongs to the secret member with which `text` begins.
    private static func secretValue(in text: Slice<UnsafeRawBufferPointer>) -> Range<Int>? {
        guard text.first == UInt8(ascii: "\""), let name = secretNames.first(where: { text.starts(with: $0) }) else {
            return nil
        }
        let value = text.dropFirst(name.count).drop { $0.isSpace || $0 == UInt8(ascii: ":") }
        guard value.first == UInt8(ascii: "\"") else { return nil }
        return value.startIndex..<(JSONString.length(in: value).map { value.startIndex + $0 } ?? value.endIndex)
    }
}
