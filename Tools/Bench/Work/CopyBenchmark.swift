import Domain
import Postgres

/// The physical limit: COPY into `api_logs` as it is, with its foreign key and its index. No facts, no counters.
struct CopyBenchmark: Benchmark {
    private static let rows = 20_000
    private static let connections = 2
    private static let statement = """
        COPY public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, created_at,
                              updated_at) FROM STDIN
        """

    let name: String
    let summary: String

    init(_ name: String, _ summary: String) {
        self.name = name
        self.summary = summary
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let text = Self.text
        let growth = try await DatabaseGrowth(site)
        let pool = site.makePool(connections: Self.connections)
        let clock = ContinuousClock()
        let result: Result<(Measurement, Int), any Error>
        do {
            let warmUp = try await copy(text, pool, for: .seconds(1))
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let count = try await copy(text, pool, for: .seconds(seconds))
            var measurement = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            measurement.clientCPU = nil
            measurement.batchEvents = Double(Self.rows)
            result = .success((measurement, warmUp + count))
        } catch {
            result = .failure(error)
        }
        await pool.close()
        let (measurement, copied) = try result.get()
        let logs = try await growth.logs
        try WrongResult.require(logs == copied, "\(copied) rows were copied, api_logs grew by \(logs).")
        return measurement
    }

    /// How many rows were copied.
    private func copy(_ text: [UInt8], _ pool: ConnectionPool, for duration: Duration) async throws -> Int {
        let end = ContinuousClock.now + duration
        return try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<Self.connections {
                group.addTask {
                    var copied = 0
                    while ContinuousClock.now < end {
                        copied += try await pool.withConnection { try $0.copyIn(Self.statement) { try $0.write(text) } }
                    }
                    return copied
                }
            }
            return try await group.reduce(0, +)
        }
    }

    /// Rows of users drawn at random, in COPY's text format; the same for every COPY.
    private static var text: [UInt8] {
        var generator = SystemRandomNumberGenerator()
        let time = "2026-01-01 00:00:00"
        let lines = Person.Distribution.uniform.draw(rows, using: &generator).map {
            "\($0)\tgpt-4\t100\t50\t0.0015\t1250\tsuccess\t\(time)\t\(time)\n"
        }
        return Array(lines.joined().utf8)
    }
}
