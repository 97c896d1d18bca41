import Domain
import Postgres
import Storage
import TestSupport

/// How fast one question is answered, asked again and again over one warm connection, with a tail of rows that no pass has
/// folded yet.
struct ReportBenchmark: Benchmark {
    let name: String
    private let question: ReportQuestion
    /// Rows that are not folded; `nil` where it makes no difference.
    private let tail: Int?

    var summary: String { question.summary + (tail.map { "; \($0) rows not folded" } ?? "") }

    init(_ name: String, _ question: ReportQuestion, tail: Int?) {
        self.name = name
        self.question = question
        self.tail = tail
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        if let tail { try await makeTail(of: tail, site) }
        let (user, question, now) = (Int64(Person.heavyID), question, Timestamp.now)
        let (answer, durations, measurement) = try await site.pool.withConnection { connection in
            // The first ones are planned, and read from the disk.
            for _ in 0..<3 { _ = try question.answer(connection, user, now) }
            let clock = ContinuousClock()
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let end = start + .seconds(seconds)
            var (answer, durations) = (Int64(0), [Double]())
            while clock.now < end {
                let begin = clock.now
                answer = try question.answer(connection, user, now)
                durations.append((clock.now - begin) / .milliseconds(1))
            }
            let measurement = Measurement(
                count: durations.count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            return (answer, durations, measurement)
        }
        let truth = try await site.number(question.truth(user, now))
        try WrongResult.require(answer == truth, "\(name) says \(answer), the rows say \(truth).")
        return measurement.withLatencies(durations)
    }

    /// Folds what is there and adds the tail, unless it is there. The rows without an event the worker folds every second, so
    /// that these are folded.
    private func makeTail(of tail: Int, _ site: BenchSite) async throws {
        let waiting = try await site.number(
            """
            SELECT count(*) FROM metering.events
            WHERE api_log_id > (SELECT event_log_id FROM metering.usage_cursor)
            """)
        guard waiting != tail else { return }
        _ = try await site.fold()
        try await site.pool.withConnection { _ = try EventBulk.insert(tail, now: .now, $0) }
        try await site.vacuumSums()
        _ = try await UsagePass(pool: site.pool, now: { .now }).run(.others)
    }
}

extension Measurement {
    /// With the mean, the median and the 99th percentile of `durations`, in milliseconds.
    fileprivate func withLatencies(_ durations: [Double]) -> Measurement {
        let sorted = durations.sorted()
        var measurement = self
        measurement.clientCPU = nil
        measurement.meanLatency = sorted.reduce(0, +) / Double(sorted.count)
        measurement.medianLatency = sorted[sorted.count / 2]
        measurement.latency99 = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
        return measurement
    }
}
