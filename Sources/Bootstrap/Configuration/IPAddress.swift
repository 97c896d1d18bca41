internal import Glibc

/// An IPv4 or IPv6 address. An IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is the IPv4 address.
package struct IPAddress: Sendable, Hashable, CustomStringConvertible {
    /// 4 or 16 bytes, in network order.
    package let bytes: [UInt8]

    /// The address `text` writes, without port, brackets or zone; `nil` for every other text.
    package init?(_ text: some StringProtocol) {
        let text = String(text)
        if let bytes = Self.parse(text, family: AF_INET, as: in_addr()) {
            self.bytes = bytes
        } else if let bytes = Self.parse(text, family: AF_INET6, as: in6_addr()) {
            let isMapped = bytes.starts(with: Self.mappedPrefix)
            self.bytes = isMapped ? Array(bytes.dropFirst(Self.mappedPrefix.count)) : bytes
        } else {
            return nil
        }
    }

    private init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    static let mappedPrefix: [UInt8] = Array(repeating: 0, count: 10) + [0xFF, 0xFF]

    /// The address with all but the first `bits` bits zero.
    package func network(_ bits: Int) -> IPAddress {
        IPAddress(
            bytes: bytes.enumerated().map { index, byte in
                let kept = min(max(bits - index * 8, 0), 8)
                return byte & UInt8(truncatingIfNeeded: 0xFF00 >> kept)
            })
    }

    /// What one customer of a provider has: an IPv6 address's /64, an IPv4 address itself.
    package var customer: IPAddress { bytes.count == 16 ? network(64) : self }

    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        _ = inet_ntop(family, bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func parse<Address>(_ text: String, family: CInt, as address: Address) -> [UInt8]? {
        var address = address
        return withUnsafeMutableBytes(of: &address) { bytes in
            inet_pton(family, text, bytes.baseAddress) == 1 ? Array(bytes) : nil
        }
    }
}
