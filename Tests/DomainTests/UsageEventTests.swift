import Domain
import Foundation
import Testing

@Suite(.timeLimit(.minutes(30))) struct UsageEventTests {
    private func event(_ change: (inout UsageEvent) -> Void = { _ in }) -> UsageEvent {
        var event = UsageEvent(
            key: EventKey(high: 1, low: 2), isIdempotent: true, shape: .litellm, identity: IdentityClaim(userID: 42),
            status: .success, modelGroup: "gpt-4o", inputTokens: 1000, outputTokens: 50,
            cost: DecimalLiteral("0.00225").flatMap(Cost.init), occurredAt: Timestamp(microseconds: 1))
        change(&event)
        return event
    }

    @Test func billableFactsAreTokensCostLiteralAndStatus() {
        let digest = event().billableDigest
        #expect(
            event {
                $0.modelGroup = "other"; $0.durationMilliseconds = 7; $0.tags = ["x"]
            }.billableDigest == digest)
        let others = [
            event { $0.inputTokens = 1001 }, event { $0.outputTokens = 0 }, event { $0.status = .error },
            event { $0.cost = nil }, event { $0.cost = DecimalLiteral("0.002250").flatMap(Cost.init) },
            event {
                $0.inputTokens = 100; $0.outputTokens = 0
            },
            event {
                $0.inputTokens = 10; $0.outputTokens = 0
            },
        ]
        #expect(Set(others.map(\.billableDigest) + [digest]).count == others.count + 1)
    }

    @Test func survivesCoding() throws {
        let event = event {
            $0.flags = [.timeClamped]; $0.identity.keyHashes = [KeyHash(of: "k")]
        }
        #expect(try JSONDecoder().decode(UsageEvent.self, from: JSONEncoder().encode(event)) == event)
    }

    @Test func anEventCountsTowardAQuotaAsInLaravel() {
        func contribution(_ change: (inout UsageEvent) -> Void) -> [Int64] {
            let contribution = QuotaContribution(of: event(change))
            return [contribution.requests, contribution.tokens]
        }
        #expect(contribution { _ in } == [1, 1050])
        #expect(contribution { $0.isCacheHit = true } == [1, 0])
        #expect(contribution { $0.status = .rateLimited } == [0, 0])
        #expect(contribution { $0.status = .error } == [1, 1050])
        #expect(
            contribution {
                $0.status = .error; $0.inputTokens = 0; $0.outputTokens = 0; $0.cost = nil
            } == [0, 0])
        // It cost, such as an image.
        #expect(
            contribution {
                $0.status = .error; $0.inputTokens = 0; $0.outputTokens = 0
            } == [1, 0])
        #expect(
            contribution {
                $0.status = .error; $0.shape = .documented; $0.inputTokens = 0
            } == [1, 50])
        #expect(contribution { $0.inputTokens = .max } == [1, .max])
    }
}

@Suite(.timeLimit(.minutes(30))) struct TimestampTests {
    @Test(arguments: [(1_999, 1), (0, 0), (-1, -1), (-1000, -1), (.min, -9_223_372_036_854_776)] as [(Int64, Int64)])
    func millisecondsAreRoundedTowardsThePast(microseconds: Int64, milliseconds: Int64) {
        #expect(Timestamp(microseconds: microseconds).milliseconds == milliseconds)
    }

    @Test func aTimestampSaturatesAtBothEnds() {
        let time = Timestamp(microseconds: 10)
        #expect(time.advanced(by: .microseconds(-11)) == Timestamp(microseconds: -1))
        #expect(time.advanced(by: .seconds(86_400)) == Timestamp(microseconds: 86_400_000_010))
        #expect(time.advanced(by: .seconds(Int64.max)) == Timestamp(microseconds: .max))
        #expect(time.advanced(by: .seconds(Int64.min)) == Timestamp(microseconds: .min))
        #expect(time.advanced(by: .seconds(9_223_372_036_854) + .milliseconds(900)) == Timestamp(microseconds: .max))
    }
}
