import Domain
import Foundation
import Testing

@Suite(.timeLimit(.minutes(30))) struct IdentityTests {
    @Test func aKeyIsHashedAsByLiteLLM() {
        let hash = KeyHash(of: "abc")
        #expect(hash.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(KeyHash(hex: hash.hex) == hash)
        #expect(KeyHash(bytes: hash.bytes) == hash)
    }

    @Test(arguments: ["", "ba78", String(repeating: "A", count: 64), String(repeating: "g", count: 64)])
    func takesNothingElseForAHash(text: String) {
        #expect(KeyHash(hex: text) == nil)
        #expect(KeyHash(bytes: Array(text.utf8)) == nil)
    }

    @Test func aKeyInClearIsNeitherPrintedNorCoded() throws {
        let claim = IdentityClaim(
            keyHashes: [KeyHash(of: "cf_secret")], isKeyOptional: true, laravelUserID: 1, userID: 2,
            presentedKey: "cf_secret")
        let coded = try JSONEncoder().encode(claim)
        #expect(!String(decoding: coded, as: UTF8.self).contains("cf_secret"))
        #expect(!"\(claim)\(String(reflecting: claim))".contains("cf_secret"))
        var read = try JSONDecoder().decode(IdentityClaim.self, from: coded)
        #expect(read.presentedKey == nil)
        read.presentedKey = claim.presentedKey
        #expect(read == claim)
    }

    @Test func anEmptyClaimNamesNoUser() {
        #expect(IdentityClaim().isEmpty)
        #expect(!IdentityClaim(userID: 1).isEmpty)
        #expect(!IdentityClaim(laravelUserID: 1).isEmpty)
        #expect(!IdentityClaim(keyHashes: [KeyHash(of: "")]).isEmpty)
    }
}
