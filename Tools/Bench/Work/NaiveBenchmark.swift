import Foundation
import Postgres
import TestSupport

/// The same work as a Laravel application does it, one transaction a call, by pgbench: no HTTP, no JSON, no facts.
struct NaiveBenchmark: Benchmark {
    let name: String
    let summary: String
    private let people: Person.Distribution
    private let clients: Int

    init(_ name: String, _ people: Person.Distribution, clients: Int = 64, _ summary: String) {
        self.name = name
        self.summary = summary
        self.people = people
        self.clients = clients
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let script = site.folder.appending(path: "naive.sql")
        try Self.script(people).write(to: script, atomically: false, encoding: .utf8)
        let growth = try await DatabaseGrowth(site)
        let warmUp = try await run(script, site, seconds: 1)
        let meter = CPUMeter(service: nil, postmaster: site.postmaster)
        let report = try await run(script, site, seconds: seconds)
        let cpu = meter.reading
        let (expected, logs) = (warmUp.transactions + report.transactions, try await growth.logs)
        try WrongResult.require(logs == expected, "pgbench made \(expected) transactions, api_logs grew by \(logs).")
        var measurement = Measurement(
            count: report.transactions, seconds: Double(report.transactions) / report.rate, cpu: cpu)
        measurement.serviceCPU = nil
        measurement.meanLatency = report.meanLatency
        return measurement
    }

    private func run(_ script: URL, _ site: BenchSite, seconds: Int) async throws -> PgbenchReport {
        let database = site.database
        let threads = min(ProcessInfo.processInfo.activeProcessorCount, clients)
        return try PgbenchReport(
            try await Command.run(
                "/usr/bin/env",
                [
                    "pgbench", "--no-vacuum", "--protocol", "prepared", "--client", "\(clients)",
                    "--jobs", "\(threads)", "--time", "\(seconds)", "--file", script.path(), "--host", database.host,
                    "--port", "\(database.port)", "--username", database.user, database.database,
                ]))
    }

    /// Laravel's statements (`laravel.md` §3), without its races.
    private static func script(_ people: Person.Distribution) -> String {
        let last = Person.firstID + Person.count - 1
        let person =
            switch people {
            case .uniform: "random(\(Person.firstID), \(last))"
            case .zipf:
                "\(Person.firstID - 1) + random_zipfian(1, \(Person.count), \(Person.Distribution.exponent))"
            }
        let upserts = [("daily", "day", 100_000, 1_000), ("monthly", "month", 1_000_000, 10_000)].map {
            period, unit, tokens, requests in
            """
            INSERT INTO rate_limits (user_id, period, limit_tokens, used_tokens, limit_requests, used_requests, reset_at, \
            created_at, updated_at) VALUES (:id, '\(period)', \(tokens), 150, \(requests), 1, \
            date_trunc('\(unit)', now() AT TIME ZONE 'UTC') + interval '1 \(unit)', now() AT TIME ZONE 'UTC', \
            now() AT TIME ZONE 'UTC') ON CONFLICT (user_id, period) DO UPDATE SET \
            used_tokens = rate_limits.used_tokens + 150, used_requests = rate_limits.used_requests + 1, \
            updated_at = excluded.updated_at;
            """
        }
        return """
            \\set person \(person)
            BEGIN;
            SELECT id FROM users WHERE api_key = 'cf_' || lpad(:person::text, 64, '0') \\gset
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, \
            created_at, updated_at) VALUES (:id, 'gpt-4', 100, 50, 0.0015, 1250, 'success', now() AT TIME ZONE 'UTC', \
            now() AT TIME ZONE 'UTC');
            \(upserts.joined(separator: "\n"))
            END;
            """
    }
}
