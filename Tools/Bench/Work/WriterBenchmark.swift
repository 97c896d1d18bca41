import Domain
import Foundation
import LiteLLM
import Postgres
import Storage
import TestSupport

/// The statements of the ingest path alone: what ``EventWriter`` does with batches as large as the service makes them under
/// load, of events that lie in memory already. No HTTP, no JSON, no fold of the counters; where it says so, the worker folds
/// the sums beside it.
struct WriterBenchmark: Benchmark {
    /// The service's largest transaction; under arrays it makes hardly a smaller one.
    private static let batchEvents = GroupCommit.Limits().batchEvents

    let name: String
    let summary: String
    private let connections: Int
    private let isFolding: Bool

    init(_ name: String, connections: Int, isFolding: Bool = false, _ summary: String) {
        self.name = name
        self.summary = summary
        self.connections = connections
        self.isFolding = isFolding
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        guard isFolding else { return try await measureIngest(site, seconds: seconds).measurement }
        let growth = try await UsageGrowth(site)
        let worker = WorkerBeside(site)
        async let folding = worker.run()
        let result: Result<(measurement: Measurement, stored: Int), any Error>
        do { result = .success(try await measureIngest(site, seconds: seconds)) } catch { result = .failure(error) }
        worker.stop()
        let folded = try await folding
        let (measurement, stored) = try result.get()
        try WrongResult.require(folded > 0, "The worker folded nothing beside the ingest.")
        try await growth.require(stored)
        return measurement
    }

    private func measureIngest(_ site: BenchSite, seconds: Int) async throws -> (measurement: Measurement, stored: Int)
    {
        let source = try EventSource()
        let growth = try await DatabaseGrowth(site)
        let pool = site.makePool(connections: connections)
        let (measurement, stored): (Measurement, Int)
        do {
            let writer = EventWriter(pool: pool, now: { .now })
            let warmUp = try await write(writer, source, for: .seconds(1))
            let clock = ContinuousClock()
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let count = try await write(writer, source, for: .seconds(seconds))
            var result = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            result.clientCPU = nil
            result.batchEvents = Double(Self.batchEvents)
            (measurement, stored) = (result, warmUp + count)
        } catch {
            await pool.close()
            throw error
        }
        await pool.close()
        try await growth.require(stored...stored)
        return (measurement, stored)
    }

    /// How many events were stored.
    private func write(_ writer: EventWriter, _ source: EventSource, for duration: Duration) async throws -> Int {
        let end = ContinuousClock.now + duration
        return try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<connections {
                group.addTask {
                    var (stored, generator) = (0, SystemRandomNumberGenerator())
                    while ContinuousClock.now < end {
                        let items = source.items(Self.batchEvents, using: &generator)
                        let verdicts = try await writer.write(items, lockedUsers: .tryAgain)
                        stored += verdicts.count { if case .stored = $0 { true } else { false } }
                    }
                    return stored
                }
            }
            return try await group.reduce(0, +)
        }
    }
}

/// Parsed events by the dozen: the captured ones, each time with another key, time and caller.
private struct EventSource: Sendable {
    private let events: [UsageEvent]
    private let claims: [IdentityClaim]

    init() throws {
        let now = Timestamp.now
        let arrival = Arrival(at: now, retention: .seconds(400 * 86_400))
        events = try CapturedEvent.all().compactMap {
            try? EventParser.parse(Array($0.json.utf8), arrival: arrival).results[0].get()
        }
        claims = (Person.firstID..<(Person.firstID + Person.count)).map { id in
            let hash = KeyHash(of: Person.key(of: id)).hex
            return IdentityClaim(
                keyHashes: [KeyHash(hex: hash), KeyHash(of: hash)].compactMap(\.self), laravelUserID: Int64(id),
                userID: Int64(id), presentedKey: hash)
        }
    }

    func items(_ count: Int, using generator: inout some RandomNumberGenerator) -> [IngestItem] {
        let now = Timestamp.now
        return (0..<count).map { index in
            var event = events[index % events.count]
            event.key = EventKey(arrival: now, using: &generator)
            event.identity = claims[.random(in: claims.indices, using: &generator)]
            event.occurredAt = now
            return IngestItem(.success(event))
        }
    }
}
