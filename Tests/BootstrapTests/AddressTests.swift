import Bootstrap
import Testing

@Suite(.timeLimit(.minutes(30))) struct AddressTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false), ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false), ("0.0.0.0/0", "203.0.113.9", true), ("0.0.0.0/0", "2001:db8::1", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true), ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::1", false), ("::1", "::1", true),
        ("::/0", "2001:db8::1", true), ("192.0.2.128/25", "192.0.2.129", true),
        ("192.0.2.128/25", "192.0.2.127", false),
    ])
    func aRangeHoldsItsAddresses(range: String, address: String, isInside: Bool) throws {
        let range = try #require(CIDR(range))
        #expect(range.contains(try #require(IPAddress(address))) == isInside)
    }

    @Test(arguments: [
        "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0/8", "::/129", "host",
        "10.0.0.0/8/8",
    ])
    func otherTextsAreNoRange(text: String) {
        #expect(CIDR(text) == nil)
    }

    @Test(arguments: [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1"), ("127.0.0.1", "127.0.0.1")])
    func anAddressPrintsInItsCanonicalForm(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    @Test(arguments: ["", "localhost", "192.0.2.1:80", "[::1]", "fe80::1%eth0", "1.2.3", "0x7f.1"])
    func otherTextsAreNoAddress(text: String) {
        #expect(IPAddress(text) == nil)
    }
}
