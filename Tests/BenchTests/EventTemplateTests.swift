import Domain
import Foundation
import LiteLLM
import TestSupport
import Testing

@testable import Bench

/// The service reads each event of the load generator as a new event of its own user and time.
@Suite(.timeLimit(.minutes(30))) struct EventTemplateTests {
    @Test(arguments: [
        (EventTemplate.Kind.documented, 200...350), (.trimmed, 1_500...2_500), (.captured, 12_000...15_000),
    ])
    func filledEventsAreDistinctEvents(_ kind: EventTemplate.Kind, _ bytes: ClosedRange<Int>) throws {
        let template = try EventTemplate.load(kind)
        let mean = template.events.map { EventTemplate.length(of: $0) }.reduce(0, +) / template.events.count
        #expect(bytes.contains(mean))
        for event in template.events {
            let filled = (1...2).map { Self.fill(event, number: $0) }
            #expect(filled.allSatisfy { $0.utf8.count == EventTemplate.length(of: event) })
            let events = try filled.map { body in
                try EventParser.parse(Array(body.utf8), arrival: Self.arrival).results.first?.get()
            }
            #expect(events[0]?.key != events[1]?.key)
            #expect(events[0]?.isIdempotent == true)
            #expect(events[0]?.identity.keyHashes.contains(KeyHash(of: BenchUser.key(of: 10_001))) == true)
            #expect(kind == .documented || events[0]?.identity.laravelUserID ?? 10_001 == 10_001)
            #expect(kind == .documented || events[0]?.durationMilliseconds == 1250)
        }
    }

    @Test func capturedEventsAreOfManyKinds() throws {
        #expect(try CapturedEvent.all().count > 20)
    }

    private static let arrival = Arrival(at: UsageEvent.sampleTime, retention: .seconds(400 * 86_400))

    /// As `scripts/wrk.lua` fills it.
    private static func fill(_ event: String, number: Int) -> String {
        let (id, start) = (10_000 + number, Double(UsageEvent.sampleTime.microseconds) / 1e6 - 60)
        let values: [EventTemplate.Hole: String] = [
            .nextEvent: "", .id: String(format: "00000000-0000-0000-0000-%012x", number), .userID: String(id),
            .key: BenchUser.key(of: id), .keyHash: KeyHash(of: BenchUser.key(of: id)).hex,
            .start: String(format: "%.6f", start), .end: String(format: "%.6f", start + 1.25),
        ]
        return values.reduce(event) { $0.replacingOccurrences(of: $1.key.mark, with: $1.value) }
    }
}
