internal import Domain

extension JSONValue {
    /// A text of a client or a proxy, as it is kept: scrubbed, without white space around it, at most `limit`
    /// characters as PostgreSQL counts them; `nil` where nothing is left.
    func label(limit: Int = 255, scrubbing secrets: [String] = []) -> String? {
        // A character is at most 12 bytes of JSON, a pair of escaped surrogates.
        let text = prefix(limit * 16).trimmedText?.scrubbed(of: secrets)
        return text.map { $0.utf8.count <= limit ? $0 : String($0.unicodeScalars.prefix(limit)) }
    }

    /// The strings of an array, as labels; at most 32.
    func labels(scrubbing secrets: [String]) -> [String] {
        guard isArray else { return [] }
        return BodySplitter(body: bytes, maximumParts: 32).compactMap { part in
            guard case .document(let range) = part else { return nil }
            let element = JSONValue(bytes: UnsafeRawBufferPointer(rebasing: bytes[range]))
            return element.isString ? element.label(scrubbing: secrets) : nil
        }
    }

    /// A code or a name of a program's, such as `429` or `RateLimitError`; `nil` for anything longer, or with another
    /// character than letters, digits and `_.:-`.
    func word(limit: Int, scrubbing secrets: [String]) -> String? {
        guard bytes.count <= limit + 2, let word = trimmedText, word.utf8.allSatisfy(\.isOfWord) else { return nil }
        return word == word.scrubbed(of: secrets) ? word : nil
    }

    /// What went wrong, in the words of whoever knows: scrubbed, at most 8 KiB; `nil` where nothing is said.
    func message(scrubbing secrets: [String]) -> String? {
        guard isString else { return nil }
        // A byte of text is at most 6 bytes of JSON.
        return prefix(8 * 8192).trimmedText?.scrubbed(of: secrets).prefix(utf8Count: 8192)
    }

    private func prefix(_ count: Int) -> JSONValue {
        JSONValue(bytes: UnsafeRawBufferPointer(rebasing: bytes.prefix(count)))
    }
}

extension String {
    /// Without white space around it.
    var trimmed: String {
        // Most texts begin and end with a visible ASCII character; asking Unicode about it costs more than all else.
        if let first = utf8.first, let last = utf8.last, 0x21...0x7E ~= first, 0x21...0x7E ~= last { return self }
        guard let first = unicodeScalars.firstIndex(where: { !$0.properties.isWhitespace }),
            let last = unicodeScalars.lastIndex(where: { !$0.properties.isWhitespace })
        else { return "" }
        return String(unicodeScalars[first...last])
    }
}

extension UInt8 {
    fileprivate var isOfWord: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: ":"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
