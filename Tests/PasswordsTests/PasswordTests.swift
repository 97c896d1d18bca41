import Passwords
import Testing

@Suite(.timeLimit(.minutes(30))) struct PasswordTests {
    @Test(arguments: [
        ("correct horse battery", "$2y$12$77rW18Zl19B9KvzPZ1xjmOGrwQ5kPw3jyMDN39lE1IypyOTo.nTWO"),
        ("pässwörd-ß", "$2y$12$0bIqrKjWz2pYS6t8WSkDbul2eiC1kbxcNaiLY3OSJQ5XBxmj0EVee"),
    ])
    func laravelsHashesVerifyAndOnlyTheirPasswordsDo(password: String, hash: String) {
        #expect(Password.verify(password, against: hash))
        #expect(!Password.verify(password + "x", against: hash))
    }

    @Test func aHashIsWhatLaravelExpectsSaltedAndVerifies() throws {
        let first = try Password.hash("secret", cost: 4)
        let second = try Password.hash("secret", cost: 4)
        #expect(first.hasPrefix("$2y$04$") && first.utf8.count == 60)
        #expect(first != second)
        #expect(Password.verify("secret", against: first))
        #expect(!Password.verify("Secret", against: first))
    }

    @Test func theDefaultCostIsLaravels() throws {
        #expect(try Password.hash("secret").hasPrefix("$2y$12$"))
    }

    @Test func nulIsRefusedNotCutAt() throws {
        #expect(throws: Password.Problem.containsNUL) { try Password.hash("secret\0tail", cost: 4) }
        let hash = try Password.hash("secret", cost: 4)
        #expect(!Password.verify("secret\0tail", against: hash))
    }

    @Test(arguments: [72, 73, 600]) func bytesAfterThe72ndDoNotCountAsInPHP(length: Int) throws {
        let hash = try Password.hash(String(repeating: "a", count: length), cost: 4)
        #expect(Password.verify(String(repeating: "a", count: 72), against: hash))
        #expect(Password.verify(String(repeating: "a", count: 72) + "b", against: hash))
        #expect(!Password.verify(String(repeating: "a", count: 71), against: hash))
    }

    @Test(arguments: [0, 3, 32]) func anImpossibleCostIsAnError(cost: UInt) {
        // libcrypt takes 0 for "the default", which is not a cost that anybody wrote down.
        #expect(throws: Password.Problem.unsupported) { try Password.hash("secret", cost: cost) }
    }

    @Test(arguments: ["", "*0", "$2y$04$", "$1$salt$qJH7.N4xYta3aEG/dfqo/0", String(repeating: "$2y$", count: 15)])
    func whatIsNoBcryptHashVerifiesNothing(hash: String) {
        #expect(!Password.verify("secret", against: hash))
    }

    @Test func laravelRefusesDollar2bAndSoDoWe() throws {
        let hash = try Password.hash("secret", cost: 4)
        #expect(!Password.verify("secret", against: hash.replacing("$2y$", with: "$2b$")))
    }
}
