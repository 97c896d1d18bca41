import Domain
import Foundation
import LiteLLM
import TestSupport
import Testing

/// Random damage to real bodies: nothing traps, nothing depends on chance, and what lies before the damage survives.
@Suite(.timeLimit(.minutes(30))) struct MutationTests {
    private static let arrival: Arrival = {
        var arrival = captured
        arrival.generator = SplitMix(state: 1)
        return arrival
    }()

    private func seeds() throws -> [[UInt8]] {
        let captured = try Fixtures.litellm().filter { $0.bytes.count < 50_000 }.map(\.bytes)
        let goldens = try Fixtures.webhookGoldens().map(\.body).filter { $0.count < 50_000 }
        return captured + goldens
            + [proxyEvent(), "[\(proxyEvent()), null, \(documentedEvent())]"].map { Array($0.utf8) }
    }

    @Test(arguments: 0..<8)
    func randomDamageIsSurvivedTheSameWayTwice(seed: Int) throws {
        var generator = SplitMix(state: TestSeed.seed(standard: UInt64(seed)))
        let seeds = try seeds()
        for _ in 0..<200 {
            guard var body = seeds.randomElement(using: &generator) else { return }
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                damage(&body, with: seeds, using: &generator)
            }
            let parsed = EventParser.parse(body, arrival: Self.arrival)
            #expect(parsed.results == EventParser.parse(body, arrival: Self.arrival).results)
            #expect(parsed.form == .events || parsed.results.count == 1)
            for event in parsed.events + parsed.rejections.compactMap(\.event) { expectBounded(event) }
            for rejection in parsed.rejections {
                #expect((rejection.reason == .unreadable) == (rejection.event == nil))
            }
        }
    }

    @Test func elementsBeforeTheDamageAreAsTheyWere() throws {
        var generator = SplitMix(state: TestSeed.seed(standard: 99))
        let good = [proxyEvent(), documentedEvent(), proxyEvent(#""id": "other""#)]
        let prefix = Array("[\(good.joined(separator: ",")),".utf8)
        let expected = EventParser.parse(prefix + Array("{}]".utf8), arrival: Self.arrival).results.prefix(3)
        let seeds = try seeds()
        for _ in 0..<200 {
            var tail = Array("\(proxyEvent()), \(proxyEvent())]".utf8)
            damage(&tail, with: seeds, using: &generator)
            let parsed = EventParser.parse(prefix + tail, arrival: Self.arrival)
            #expect(parsed.results.prefix(3) == expected)
            #expect(parsed.results.count >= 3)
        }
    }

    private func damage(_ body: inout [UInt8], with others: [[UInt8]], using generator: inout SplitMix) {
        let position = Int.random(in: 0...body.count, using: &generator)
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: body.removeSubrange(position...)
        case 1 where position < body.count: body[position] = .random(in: .min ... .max, using: &generator)
        case 2 where position < body.count: body[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 3:
            let other = others.randomElement(using: &generator) ?? []
            body.insert(contentsOf: other.prefix(Int.random(in: 0...200, using: &generator)), at: position)
        case 4:
            let token =
                [#"""#, "\\", "{", "}", "[", "]", ",", ":", "null", "NaN", "1e999", "\n", "\\u0000", "\0", "\u{FEFF}"]
                .randomElement(using: &generator) ?? ""
            body.insert(contentsOf: token.utf8, at: position)
        default:
            let end = Int.random(in: position...body.count, using: &generator)
            body.removeSubrange(position..<min(end, position + 300))
        }
    }

    private func expectBounded(_ event: UsageEvent) {
        #expect(!event.modelGroup.isEmpty)
        #expect(event.tags.count <= 32)
        #expect(
            event.inputTokens >= 0 && event.outputTokens >= 0 && event.cachedTokens >= 0 && event.reasoningTokens >= 0)
        #expect((event.durationMilliseconds ?? 0) >= 0 && (event.timeToFirstTokenMilliseconds ?? 0) >= 0)
        #expect((event.errorMessage ?? "").utf8.count <= 8192)
        let texts =
            [event.modelGroup, event.deployment, event.provider, event.callType, event.errorCode, event.endUser]
            .compactMap(\.self) + event.tags
        for text in texts + [event.errorMessage ?? ""] {
            #expect(!text.unicodeScalars.contains("\0"))
            #expect(text == text.scrubbed())
        }
        for text in texts { #expect(text.unicodeScalars.count <= 255) }
    }
}
