internal import CCrypt
internal import Glibc

/// Password hashes as Laravel stores them: bcrypt, `$2y$`, 60 bytes.
///
/// Both functions take a quarter of a second of CPU on purpose. Servers call them through ``PasswordQueue``, never on
/// Swift's cooperative pool.
package enum Password {
    /// Why a password cannot be hashed.
    package enum Problem: Error, Equatable {
        /// bcrypt ends a password at NUL; PHP refuses one that contains it, and so do we.
        case containsNUL
        /// libcrypt does not know bcrypt, or the cost is not from 4 to 31.
        case unsupported
    }

    /// The bytes of a password that bcrypt reads; PHP ignores the rest, and libcrypt refuses more than 511.
    private static let significantBytes = 72

    /// The `$2y$` hash of `password` under a fresh random salt.
    /// - Parameters:
    ///   - password: Any text; bytes after the 72nd do not count, as in PHP.
    ///   - cost: The binary logarithm of the rounds; 12 is Laravel's.
    /// - Returns: 60 ASCII characters.
    /// - Throws: ``Problem``
    package static func hash(_ password: String, cost: UInt = 12) throws(Problem) -> String {
        guard let phrase = phrase(password) else { throw .containsNUL }
        guard (4...31).contains(cost) else { throw .unsupported }
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<16).map { _ in CChar.random(in: .min ... .max, using: &generator) }
        guard let setting = owned(crypt_gensalt_ra("$2y$", cost, salt, CInt(salt.count))),
            let hash = crypt(phrase, setting)
        else { throw .unsupported }
        return hash
    }

    /// Whether `password` is the one `hash` was made of, compared in constant time.
    ///
    /// False for every hash that Laravel would refuse (`$2b$`, other algorithms) and for a password with NUL.
    package static func verify(_ password: String, against hash: String) -> Bool {
        guard hash.utf8.count == 60, hash.hasPrefix("$2y$"), let phrase = phrase(password),
            let computed = crypt(phrase, hash)
        else { return false }
        return zip(computed.utf8, hash.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0 && computed.utf8.count == 60
    }

    /// Whether `password` is the one `hash` was made of, in a time that does not depend on whether there is a hash.
    ///
    /// It takes as long as a hash of `cost`. Without a usable hash, it verifies against the hash of no password and
    /// returns false. After a cheaper hash it computes others, whose rounds add up to `cost`.
    package static func verify(_ password: String, against hash: String?, cost: UInt) -> Bool {
        guard let hash, let own = self.cost(of: hash) else {
            _ = verify(password, against: unused(cost: cost))
            return false
        }
        let isRight = verify(password, against: hash)
        // 2^own + 2^own + 2^(own + 1) + … + 2^(cost - 1) = 2^cost
        if own < cost { for cost in own..<cost { _ = verify(password, against: unused(cost: cost)) } }
        return isRight
    }

    /// The binary logarithm of the rounds of a hash that Laravel would accept.
    private static func cost(of hash: String) -> UInt? {
        hash.wholeMatch(of: /\$2y\$([0-9]{2})\$[.\/A-Za-z0-9]{53}/).flatMap { UInt($0.1) }
    }

    /// A hash whose password nobody knows.
    private static func unused(cost: UInt) -> String {
        "$2y$\(cost < 10 ? "0" : "")\(cost)$77rW18Zl19B9KvzPZ1xjmOGrwQ5kPw3jyMDN39lE1IypyOTo.nTWO"
    }

    private static func phrase(_ password: String) -> [CChar]? {
        guard !password.utf8.contains(0) else { return nil }
        return password.utf8.prefix(significantBytes).map(CChar.init(bitPattern:)) + [0]
    }

    private static func crypt(_ phrase: [CChar], _ setting: String) -> String? {
        var state: UnsafeMutableRawPointer?
        var size: CInt = 0
        defer { free(state) }
        guard let result = crypt_ra(phrase, setting, &state, &size) else { return nil }
        return String(cString: result)
    }

    private static func owned(_ text: UnsafeMutablePointer<CChar>?) -> String? {
        defer { free(text) }
        return text.map { String(cString: $0) }
    }
}
