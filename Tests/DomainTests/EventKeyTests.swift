import Crypto
import Domain
import Foundation
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct EventKeyTests {
    private let digest = SHA256.hash(data: Data("event".utf8))

    @Test func aKeyBeginsWithItsMillisecondsThenTheDigest() {
        let key = EventKey(milliseconds: 0x0123_4567_89AB, digest: digest)
        let hex = digest.map { String(format: "%02x", $0) }.joined()
        #expect(key.description.replacing("-", with: "") == "0123456789ab" + hex.prefix(20))
        #expect(!key.isIdempotencyKey)
    }

    @Test(arguments: [(Int64.min, "000000000000"), (-1, "000000000000"), (.max, "fffeffffffff")] as [(Int64, String)])
    func clampsMillisecondsThatItCannotHold(milliseconds: Int64, prefix: String) {
        let key = EventKey(milliseconds: milliseconds, digest: digest)
        #expect(key.description.replacing("-", with: "").hasPrefix(prefix))
        #expect(!key.isIdempotencyKey)
    }

    @Test func keysFromIdempotencyKeysLieAfterEveryTime() {
        let named = EventKey(idempotencyKey: "order-1")
        #expect(named.isIdempotencyKey)
        #expect(named > EventKey(milliseconds: .max, digest: digest))
        #expect(named == EventKey(idempotencyKey: "order-1"))
        #expect(named != EventKey(idempotencyKey: "order-2"))
        #expect(named.description.hasPrefix("ffff"))
    }

    @Test func randomKeysDifferAndBeginWithTheArrival() {
        var generator = SplitMix64(seed: TestSeed.seed())
        let arrival = Timestamp(microseconds: 1_795_420_661_285_083)
        let keys = (0..<100).map { _ in EventKey(arrival: arrival, using: &generator) }
        #expect(Set(keys).count == 100)
        #expect(keys.allSatisfy { $0.high >> 16 == 1_795_420_661_285 })
    }

    @Test func keysSortByTimeThenByDigest() {
        let early = EventKey(milliseconds: 1, digest: digest)
        #expect(early < EventKey(milliseconds: 2, digest: digest))
        #expect(EventKey(high: 1, low: 1) < EventKey(high: 1, low: 2))
    }

    @Test func aKeyIsWrittenAsAUUIDAndReadAgain() throws {
        let key = EventKey(high: 0x01A2_0769_2625_8F34, low: 0xF152_DBB8_561A_5804)
        #expect(key.description == "01a20769-2625-8f34-f152-dbb8561a5804")
        #expect(EventKey(key.description) == key)
        #expect(try JSONDecoder().decode(EventKey.self, from: JSONEncoder().encode(key)) == key)
        #expect(EventKey("01a20769-2625-8f34-f152-dbb8561a580") == nil)
        #expect(EventKey("g1a20769-2625-8f34-f152-dbb8561a5804") == nil)
    }
}
