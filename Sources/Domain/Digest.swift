package import Crypto

extension SHA256 {
    /// The digest of a text's UTF-8.
    package static func hash(of text: String) -> SHA256.Digest {
        var text = text
        return text.withUTF8 { hash(of: UnsafeRawBufferPointer($0)) }
    }

    /// The digest of some bytes, without a copy.
    package static func hash(of bytes: UnsafeRawBufferPointer) -> SHA256.Digest {
        var hasher = SHA256()
        hasher.update(bufferPointer: bytes)
        return hasher.finalize()
    }
}

extension SHA256.Digest {
    /// The 64 bits that begin at byte `offset`, most significant first.
    package func word(at offset: Int) -> UInt64 {
        withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
    }
}

extension Sequence<UInt8> {
    /// Two lower-case hexadecimal digits for each byte.
    package var lowercaseHex: String {
        let alphabet = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in self {
            text.append(alphabet[Int(byte >> 4)])
            text.append(alphabet[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

extension UInt8 {
    /// The value of this byte as a lower-case hexadecimal digit; `nil` if it is none.
    var lowercaseHexDigit: UInt8? {
        switch self {
        case 0x30...0x39: self - 0x30
        case 0x61...0x66: self - 0x61 + 10
        default: nil
        }
    }
}

extension [UInt8] {
    /// The bytes that `text` writes in lower-case hexadecimal; `nil` for an odd length or another character.
    package init?(lowercaseHex text: String) {
        let digits = Array(text.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        self = []
        reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = digits[index].lowercaseHexDigit, let low = digits[index + 1].lowercaseHexDigit
            else { return nil }
            append(high << 4 | low)
        }
    }
}
