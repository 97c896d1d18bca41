internal import Glibc

/// An IPv4 or IPv6 address. An IPv4 address that is mapped into IPv6, such as `::ffff:192.0.2.1` (RFC 4291 §2.5.5.2),
/// is the IPv4 address.
package struct IPAddress: Sendable, Hashable, CustomStringConvertible {
    /// 4 or 16 bytes, in network order.
    package let bytes: [UInt8]

    /// The address that `text` names, without port, brackets or zone; `nil` for every other text.
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

    /// The addresses that one customer of a provider usually has: the /64 of an IPv6 address, an IPv4 address itself.
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

/// A range of addresses, such as `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291 §2.3), or a single address.
package struct CIDR: Sendable, Hashable, CustomStringConvertible {
    private let network: IPAddress
    private let bits: Int

    /// The range that `text` names; `nil` for every other text. An address with bits after the prefix is refused too,
    /// as it is usually a typing error.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let written = parts.first, let address = IPAddress(written) else { return nil }
        let width = address.bytes.count * 8
        guard parts.count == 2 else {
            self.init(address, bits: width)
            return
        }
        guard parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), var bits = Int(parts[1]) else { return nil }
        // A mapped address was written with a prefix of IPv6's 128 bits.
        if width == 32, written.contains(":") { bits -= IPAddress.mappedPrefix.count * 8 }
        guard (0...width).contains(bits), address.network(bits) == address else { return nil }
        self.init(address, bits: bits)
    }

    private init(_ network: IPAddress, bits: Int) {
        self.network = network
        self.bits = bits
    }

    /// Whether `address` is in the range. Families differ: an IPv6 address is in no IPv4 range.
    package func contains(_ address: IPAddress) -> Bool {
        address.bytes.count == network.bytes.count && address.network(bits) == network
    }

    package var description: String { "\(network)/\(bits)" }
}
