package import Crypto

extension SHA256 {
    /// The digest of a text's UTF-8.
    package static func hash(of text: String) -> SHA256.Digest {
        var text = text
        return text.withUTF8 { hash(of: UnsafeRawBufferPointer($0)) }
    }

    /// The digest of some bytes, where they lie.
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
