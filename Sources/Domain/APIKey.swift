/// A customer's key: `cf_` and 64 hexadecimal digits, 256 random bits.
package enum APIKey {
    /// A new key from the system's generator, which is cryptographically secure.
    package static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        return "cf_" + (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }.lowercaseHex
    }
}
