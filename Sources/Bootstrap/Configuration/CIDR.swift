/// A range of addresses, `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291 §2.3); an address alone is a range of one.
package struct CIDR: Sendable, Hashable, CustomStringConvertible {
    private let network: IPAddress
    private let bits: Int

    /// The range `text` writes; `nil` for every other text, also for a range whose address has bits behind the prefix,
    /// which is a typing error more often than a wish.
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

    /// Whether `address` is in the range; an IPv4 range holds mapped addresses too, and no range holds the other family.
    package func contains(_ address: IPAddress) -> Bool {
        address.bytes.count == network.bytes.count && address.network(bits) == network
    }

    package var description: String { "\(network)/\(bits)" }
}
