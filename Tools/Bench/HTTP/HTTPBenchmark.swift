import Domain
import TestSupport

/// Events through the whole service: HTTP, JSON, attribution, one transaction, answer after COMMIT.
struct HTTPBenchmark: Benchmark {
    let name: String
    let summary: String
    private let kind: EventTemplate.Kind
    private let events: Int
    private let connections: Int
    private let people: Person.Distribution

    init(
        _ name: String, _ kind: EventTemplate.Kind, events: Int = 1, connections: Int,
        people: Person.Distribution = .uniform, _ summary: String
    ) {
        self.name = name
        self.summary = summary
        self.kind = kind
        self.events = events
        self.connections = connections
        self.people = people
    }

    /// A service of its own for each measurement, so that its memory is that of this load.
    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        let load = try WrkLoad(
            EventTemplate(kind), events: events, people: people, connections: connections, key: key, site: site)
        let growth = try await DatabaseGrowth(site)
        let (measurement, acknowledged) = try await MeasuredService(site, key: key).whileRunning {
            try await measure($0, load, site, seconds: seconds)
        }
        // When wrk stops, each of its connections may have sent a request whose answer it does not wait for; it ran twice.
        try await growth.require(acknowledged...(acknowledged + 2 * connections * events))
        return measurement
    }

    private func measure(
        _ service: MeasuredService, _ load: WrkLoad, _ site: BenchSite, seconds: Int
    ) async throws -> (Measurement, acknowledged: Int) {
        let warmUp = try await load.run(port: service.port, seconds: 1)
        let before = try await service.batches()
        let meter = CPUMeter(service: service.process.processID, postmaster: site.postmaster)
        let report = try await load.run(port: service.port, seconds: seconds)
        let cpu = meter.reading
        let after = try await service.batches()
        var measurement = Measurement(report, events: events, cpu: cpu, of: service)
        measurement.batchEvents = (after.events - before.events) / max(1, after.transactions - before.transactions)
        return (measurement, (warmUp.requests + report.requests) * events)
    }
}

extension Measurement {
    /// What wrk saw of `service`, with so many events in a request.
    init(_ report: WrkReport, events: Int = 1, cpu: CPUMeter.Reading, of service: MeasuredService) {
        self.init(count: report.requests * events, seconds: report.seconds, cpu: cpu)
        meanLatency = report.mean
        medianLatency = report.median
        latency99 = report.percentile99
        peakMemory = residentPeak(of: service.process.processID)
    }
}
