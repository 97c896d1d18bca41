import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Bench

/// A run on a small database, and the checks that make a fast wrong result an error.
@Suite(.timeLimit(.minutes(30))) struct BenchRunTests {
    @Test func everyKindOfBenchmarkRuns() async throws {
        let writes: [any Benchmark] = [
            NaiveBenchmark("naive", .zipf, clients: 4, ""),
            HTTPBenchmark("singles", .documented, connections: 4, ""),
            HTTPBenchmark("arrays", .trimmed, events: 5, connections: 4, people: .zipf, ""),
            WriterBenchmark("statements", connections: 2, ""),
            CopyBenchmark("copy", ""),
            WriterBenchmark("rollup-beside", connections: 1, isRollingUp: true, ""),
            RollupBenchmark("rollup", rows: 2_000, ""),
            RollupBenchmark("rollup-bare", isBare: true, rows: 2_000, ""),
        ]
        let reports: [any Benchmark] = ReportQuestion.all.map { ReportBenchmark("report-\($0.name)", $0, pending: 500) }
        let reads: [any Benchmark] = ReadQuestion.all.map {
            ReadBenchmark("read-\($0.name)", $0, connections: 2, recent: 500)
        }
        let others: [any Benchmark] = [
            ReadBenchmark("read-late", ReadQuestion.all[0], connections: 1, .pending(700)),
            ReadBenchmark("read-busy", ReadQuestion.all[0], connections: 1, recent: 500, .arriving(500)),
            PageBenchmark(.customer, readers: 2, requests: 20, recent: 500),
            PageBenchmark(.operator, readers: 2, requests: 20, recent: 500),
            AuthorizeBenchmark("authorize", connections: 2),
            ExportBenchmark("export", ""),
            ExportBenchmark("export-copy", isCopy: true, ""),
        ]
        let benchmarks = writes + reports + reads + others
        let schedule = Schedule(of: benchmarks, ratios: [Ratio("singles", to: "naive"), Ratio("arrays", to: "copy")])
        let report = try await inFolder { folder in
            let options = BenchRun.Options(rows: 1_000, pairs: 1, seconds: 1, schedule: schedule, folder: folder)
            // A cluster of its own: copying a database is a checkpoint, for which other tests would wait.
            return try await withPostgresCluster { cluster in
                try await BenchRun(options) { _ in }.run(on: cluster.configuration)
            }
        }
        #expect(Set(report.samples.map(\.benchmark)) == Set(benchmarks.map(\.name)))
        #expect(report.samples.allSatisfy { $0.measurement.rate > 0 && $0.measurement.postgresCPU ?? 0 > 0 })
        #expect(schedule.ratios.allSatisfy { !$0.values(in: report.samples).isEmpty })
        let service = report.measurements(of: "arrays")[0]
        #expect(service.peakMemory ?? 0 > 1 << 20 && service.batchEvents ?? 0 >= 1 && service.latency99 ?? 0 > 0)
        #expect(report.measurements(of: "report-plain")[0].latency99 ?? 0 > 0)
        for name in ["read-stats", "read-late", "read-busy", "page-customer-2", "page-operator-2", "authorize"] {
            #expect(report.measurements(of: name)[0].latency99 ?? 0 > 0, "\(name)")
        }
        #expect(report.facts.bytesPerEvent.count == 4 && report.facts.bytesPerEvent.values.allSatisfy { $0 > 1 })
        #expect(try !report.json.isEmpty)
    }

    /// What may be wrong after an event was stored.
    static let damages: [Query] = [
        "DELETE FROM public.api_logs",
        "DELETE FROM metering.events",
        "DELETE FROM metering.quota_deltas",
        "UPDATE metering.quota_deltas SET tokens = '{149}'",
        """
        INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
        VALUES (9, 'monthly', now(), 0, 1)
        """,
    ]

    @Test(arguments: damages.indices)
    func aDifferenceIsAnError(damage: Int) async throws {
        try await withSite { site, user in
            let growth = try await StoredGrowth.begin(site)
            try await store(site, user: user)
            try await site.execute(Self.damages[damage])
            await #expect(throws: WrongResult.self) { try await growth.require(1...1) }
        }
    }

    @Test func equalGrowthIsNoError() async throws {
        try await withSite { site, user in
            try await store(site, user: user)
            let growth = try await StoredGrowth.begin(site)
            try await store(site, user: user)
            try await growth.require(1...2)
            await #expect(throws: WrongResult.self) { try await growth.require(2...2) }
            await #expect(throws: WrongResult.self) { try await growth.require(0...0) }
        }
    }

    private func store(_ site: BenchSite, user: Int64) async throws {
        let event = UsageEvent.sample(.random(in: .min ... .max), by: .user(user), at: .now)
        let verdicts = try await EventWriter(pool: site.pool, now: { .now })
            .write([IngestItem(.success(event))], lockedUsers: .quarantine)
        guard case .stored? = verdicts[0] else {
            Issue.record("\(verdicts)")
            return
        }
    }

    private func withSite(_ body: (BenchSite, Int64) async throws -> Void) async throws {
        try await inFolder { folder in
            try await withTestDatabase { database in
                let site = try await BenchSite.open(database.configuration, folder: folder)
                let user = try await site.pool.withConnection { connection in
                    try connection.query(
                        """
                        INSERT INTO public.users (name, email, password)
                        VALUES ('Ada', 'ada@example.com', 'x') RETURNING id
                        """
                    )[0].decode(0, as: Int64.self)
                }
                let result: Result<Void, any Error>
                do { result = .success(try await body(site, user)) } catch { result = .failure(error) }
                await site.pool.close()
                try result.get()
            }
        }
    }

    private func inFolder<T>(_ body: (URL) async throws -> T) async throws -> T {
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        return try await body(folder)
    }
}
